"""What is wrong with a payload, in the XGBoost image's words, whichever format it came in."""

from __future__ import annotations

from loaders.contract import BadPayload, UnsupportedContentType

_REASON_CHARACTERS = 200


def unreadable(name: str, reason: object) -> UnsupportedContentType:
    """The fault for a body that is not what its type says."""
    shown = str(reason)[:_REASON_CHARACTERS] or type(reason).__name__
    return UnsupportedContentType(
        f"Loading {name} data failed with Exception, "
        f"please ensure data is in {name} format: {shown}"
    )


def feature_mismatch(name: str, given: int, trained: int) -> BadPayload:
    """The fault for a wrong number of features."""
    return BadPayload(
        f"Unable to evaluate payload provided: Feature size of {name} inference data {given} "
        f"is not consistent with feature size of trained model {trained}."
    )

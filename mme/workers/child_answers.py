"""What a worker says of what its models gave or raised."""

from __future__ import annotations

import traceback

from loaders.contract import Answer, ModelFault
from mme.workers.protocol import NO_ROOM_STATUS, Answered, Faulted
from mme.workers.wording import without_paths

_MESSAGE_CHARACTERS = 1_000


def outcome(result: Answer | ModelFault) -> Answered | Faulted:
    """What a model made of one payload."""
    if isinstance(result, Answer):
        return Answered(result.body, result.content_type, result.custom_attributes)
    return fault_of(result)


def fault_of(fault: ModelFault) -> Faulted:
    """What was raised on purpose."""
    return Faulted(fault.status, without_paths(str(fault))[:_MESSAGE_CHARACTERS])


def unexpected(error: Exception) -> Faulted:
    """What was not; how it came about is for the server's log."""
    detail = "".join(traceback.format_exception(error))
    if isinstance(error, MemoryError):
        return Faulted(NO_ROOM_STATUS, "The worker is out of memory.", detail)
    message = without_paths(f"{type(error).__name__}: {error}")
    return Faulted(ModelFault.status, message[:_MESSAGE_CHARACTERS], detail)

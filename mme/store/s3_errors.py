"""What S3 answered -> our errors: whose fault it is decides. Pure.

Decision: credentials that S3 does not take are StoreUnavailable, not the client's fault: no client
can mend them, and the operator is told what to do.
"""

from __future__ import annotations

import re

from mme.errors import ArtifactUnavailable, MmeError, ReadFailed, StoreUnavailable

_CODE = re.compile(rb"<Code>(\w+)</Code>")
_MISSING = frozenset(
    {"NoSuchKey", "NoSuchBucket", "NotFound", "404", "KeyTooLongError", "NoSuchVersion"}
)
_DENIED = frozenset({"AccessDenied", "AllAccessDisabled", "Forbidden", "403", "InvalidObjectState"})
_CREDENTIALS = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidToken",
        "NotSignedUp",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)


def code_in(body: bytes) -> str:
    """S3's error code as the body of an error answer has it; 404 where it has none."""
    found = _CODE.search(body)
    return found[1].decode() if found else "404"


def answer_error(bucket: str, key: str, code: str, status: int) -> MmeError:
    """Translates an error answer.

    Args:
        bucket: the bucket asked.
        key: the full object key.
        code: S3's error code, or the status as text where the answer had no body.
        status: the HTTP status.
    """
    if code in _MISSING:
        return ArtifactUnavailable(bucket, key, "missing")
    if code in _DENIED:
        return ArtifactUnavailable(bucket, key, "denied")
    if code in _CREDENTIALS:
        return credentials_error(bucket, code)
    return StoreUnavailable(
        f"S3 failed with {code} (status {status}, bucket: {bucket}, key: {key})."
    )


def credentials_error(bucket: str, code: str) -> StoreUnavailable:
    """The operator's credentials are missing or refused."""
    return StoreUnavailable(
        f"S3 does not take the server's credentials ({code}, bucket: {bucket}). The server needs "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role, and the right time."
    )


def silence_error(bucket: str, key: str, cause: str) -> StoreUnavailable:
    """S3 was not reached, or what it answered is none."""
    return StoreUnavailable(f"S3 does not answer ({cause}, bucket: {bucket}, key: {key}).")


def broken_error(bucket: str, key: str, cause: str) -> ReadFailed:
    """S3 sent a part of an object, and no more."""
    return ReadFailed(f"S3 broke off ({cause}, bucket: {bucket}, key: {key}).")

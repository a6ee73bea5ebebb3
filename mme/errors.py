"""Every error that mme raises on purpose, and whose fault it is.

HTTP statuses are given in `front/wire.py` only.

    MmeError
    ├─ ConfigError            operator: a setting is missing, unknown or out of range
    ├─ RequestError           client: mend the request
    │  ├─ InvalidRequest        malformed or hostile header; unknown endpoint or variant
    │  ├─ ArtifactUnavailable   the store has no such object, or denies it
    │  ├─ ModelMissing          no such model is registered or in memory
    │  ├─ ModelConflict         a model of that name is registered already
    │  ├─ Unauthenticated       who asks has not shown who they are
    │  ├─ AccessDenied          they have, and may not do this
    │  ├─ PayloadTooLarge       body over the limit
    │  └─ PayloadTimeout        body not received in time
    ├─ ModelError             model: what a SageMaker container would answer with a 4xx or 5xx
    │  ├─ ArtifactRefused       the tarball is hostile, truncated or no tarball
    │  ├─ LoadFailed            no loader, a corrupt model, a missing framework, trust refused
    │  ├─ PredictionFailed      the model or its codec refused the payload or raised
    │  ├─ MemoryRefused         no room can be made for this model
    │  ├─ InvocationTimeout     not answered by its deadline
    │  ├─ SiblingFailed         another container failed
    │  │  └─ SiblingSilent        it did not answer, or what it answered is no HTTP
    │  ├─ HandoverTooLarge      one container's answer is too large to be the next one's request
    │  └─ WorkerLost            the worker died or was ended while the request ran in it
    ├─ ModelNotReady          nobody: still loading when the caller's window closed
    ├─ Overloaded             server: queues are full; come again
    │  ├─ CacheThrashing        all that could go for the model is in use, and asked for more
    │  └─ Throttled             client: a limit of its tenant's own is reached
    ├─ Draining               server: shutting down; go elsewhere
    ├─ UsageUnreadable        server: the file of what models used fails
    └─ StoreUnavailable       dependency: the store does not answer, or fails itself
       └─ ReadFailed            what it sent broke off or came damaged; read it anew
          └─ ObjectChanged        nobody: the object was overwritten while it was read
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class Fault(Enum):
    """Who has to act. The log level and the status follow from it."""

    CLIENT = "client"
    MODEL = "model"
    SERVER = "server"
    DEPENDENCY = "dependency"
    OPERATOR = "operator"


class MmeError(Exception):
    """Base of all of them. `str(error)` is fit to be shown to a client."""

    fault: ClassVar[Fault] = Fault.SERVER
    retryable: ClassVar[bool] = False


class ConfigError(MmeError):
    """A setting is missing, unknown or out of range; the message names it."""

    fault = Fault.OPERATOR


class RequestError(MmeError):
    """The caller's fault: the same request will fail again."""

    fault = Fault.CLIENT


class InvalidRequest(RequestError):
    """Malformed, missing, hostile or contradictory; `code` is SageMaker's `ErrorCode`."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class ArtifactUnavailable(RequestError):
    """The store has no such object, or does not let us read it.

    Args:
        bucket: the bucket's name, or the directory store's name for itself.
        key: the full object key, prefix included.
        reason: one of "missing" and "denied".
    """

    def __init__(self, bucket: str, key: str, reason: str) -> None:
        super().__init__(
            f"Failed to download model data (bucket: {bucket}, key: {key}). "
            "Please ensure that there is an object located at the URL and that the role "
            "the server runs with has permissions to access the object."
        )
        self.bucket = bucket
        self.key = key
        self.reason = reason


class ModelMissing(RequestError):
    """What was asked for by name is not registered, not in memory, or its directory not there."""


class ModelConflict(RequestError):
    """A model of that name is registered already."""


class Unauthenticated(RequestError):
    """Who asks has not shown who they are; `code` is AWS's name for what is wrong."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class AccessDenied(RequestError):
    """Who asks is known, and may not do this."""


class PayloadTooLarge(RequestError):
    """The body is over the limit."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"HTTP content length exceeded {limit_bytes} bytes.")
        self.limit_bytes = limit_bytes


class PayloadTimeout(RequestError):
    """The body did not arrive in time."""


class ModelError(MmeError):
    """What a SageMaker container would have answered with an error.

    Args:
        message: what went wrong, for the client.
        original_status: the status such a container would give; 0 where it would give none.
    """

    fault = Fault.MODEL
    default_status: ClassVar[int] = 500

    def __init__(self, message: str, original_status: int | None = None) -> None:
        super().__init__(message)
        self.original_status = self.default_status if original_status is None else original_status
        self.etag: str | None = None  # of the content that failed to load, once it is known
        self.container: str | None = None  # which of several it was
        self.spent_seconds = 0.0  # by another container on what failed, where that is known


class ArtifactRefused(ModelError):
    """The tarball is hostile, truncated, empty or no tarball."""

    default_status = 400


class LoadFailed(ModelError):
    """Not recognised, corrupt, its framework missing, or trust forbids it."""


class PredictionFailed(ModelError):
    """The model or its codec refused the payload or raised.

    Args:
        detail: the worker's traceback, for the log only.
    """

    def __init__(self, message: str, original_status: int | None = None, detail: str = "") -> None:
        super().__init__(message, original_status)
        self.detail = detail


class MemoryRefused(ModelError):
    """No room can be made: larger than the budget, or everything else is in use."""

    default_status = 507


class InvocationTimeout(ModelError):
    """Not answered by its deadline."""

    default_status = 0


class SiblingFailed(ModelError):
    """Another container answered with an error, with what can't be understood, or not at all.

    `original_status` is what it answered with; 0 where nothing that HTTP knows came.
    """

    default_status = 0


class SiblingSilent(SiblingFailed):
    """Nothing that HTTP knows came from another container.

    Args:
        what: what happened, as the end of a sentence.
    """

    def __init__(self, container: str, what: str) -> None:
        super().__init__(f"Container {container} does not answer: {what}.")
        self.container = container  # it may come up while the next one reads its answer
        self.what = what


class HandoverTooLarge(ModelError):
    """One container's answer is too large to be the next one's request."""

    default_status = 413

    def __init__(self, giver: str, taker: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"Received response from {giver} with status code 200. However, the request payload "
            f"from {giver} to {taker} is {size_bytes} bytes, which has exceeded the maximum limit "
            f"of {limit_bytes / 1024**2:g} MB."
        )
        self.container = giver


class WorkerLost(ModelError):
    """The worker died or was ended while this ran in it.

    Args:
        started: False where the request had certainly not begun, so that it may run elsewhere.
    """

    default_status = 0

    def __init__(self, message: str, *, started: bool = True) -> None:
        super().__init__(message)
        self.started = started


class ModelNotReady(MmeError):
    """Still loading when the caller's window closed; the load goes on behind it."""

    retryable = True


class Overloaded(MmeError):
    """Queues are full.

    Args:
        retry_after_seconds: when that may be different; 0: nobody knows.
    """

    retryable = True

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class CacheThrashing(Overloaded):
    """All that could go for this model is in use, and was asked for more often lately."""


class Throttled(Overloaded):
    """A limit of the tenant's own is reached."""

    fault = Fault.CLIENT


class Draining(MmeError):
    """The server is shutting down."""

    retryable = True


class DiskUnavailable(MmeError):
    """The disk tier can't take the model: full of models in use, read-only, or failing."""

    retryable = True


class UsageUnreadable(MmeError):
    """The ledger of what models used can't be read or written."""

    retryable = True


class StoreUnavailable(MmeError):
    """The store does not answer, or answers with a failure of its own."""

    fault = Fault.DEPENDENCY
    retryable = True


class ReadFailed(StoreUnavailable):
    """The object broke off in the middle or came damaged: read anew, it may come whole."""


class ObjectChanged(ReadFailed):
    """The object was overwritten while it was read: what comes next would be another one's."""

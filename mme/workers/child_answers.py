"""What a worker says of its models, and of what they gave, raised or printed."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Hashable
from typing import Any

import msgspec

from loaders.contract import Answer, ModelFault
from mme.domain import Signature
from mme.workers.child_channel import Channel
from mme.workers.protocol import NO_ROOM_STATUS, Answered, Faulted, Printed, size_of
from mme.workers.wording import without_paths

_MESSAGE_CHARACTERS, _DETAIL_CHARACTERS = 1_000, 100_000

_TOO_LARGE = "The model's answer has {} bytes; the limit (answer_limit) is {}."


class Voice:
    """Where what a model prints goes: to the server's log, with the model's name."""

    __slots__ = ("_control", "name")

    def __init__(self, name: str, control: Channel) -> None:
        self.name = name
        self._control = control

    def __call__(self, line: str) -> None:
        """Sends a line."""
        self._control.send(Printed(self.name, line))


def signature_of(model: object) -> Signature | None:
    """What is known of the tensors that a model is asked by; None: it is not."""
    tensors: Any = getattr(model, "tensors", None)  # to check for a TensorModel takes longer
    return None if tensors is None else _told(tensors.signature())


@functools.lru_cache  # few differ
def _told(signature: Hashable) -> Signature:
    return msgspec.convert(signature, Signature, from_attributes=True)


def outcome(result: Answer | ModelFault, limit_bytes: int) -> Answered | Faulted:
    """What a model made of one payload; an answer over the limit is its fault."""
    if isinstance(result, Answer):
        answered = Answered(result.body, result.content_type, result.custom_attributes)
        if (size_bytes := size_of([answered])) > limit_bytes:
            return Faulted(ModelFault.status, _TOO_LARGE.format(size_bytes, limit_bytes))
        return answered
    return fault_of(result)


def fault_of(fault: ModelFault) -> Faulted:
    """What was raised on purpose."""
    return Faulted(fault.status, without_paths(str(fault))[:_MESSAGE_CHARACTERS])


def unexpected(error: Exception) -> Faulted:
    """What was not; how it came about is for the server's log."""
    detail = "".join(traceback.format_exception(error))[-_DETAIL_CHARACTERS:]
    if isinstance(error, MemoryError):
        return Faulted(NO_ROOM_STATUS, "The worker is out of memory.", detail)
    message = without_paths(f"{type(error).__name__}: {error}")
    return Faulted(ModelFault.status, message[:_MESSAGE_CHARACTERS], detail)

"""How a worker ended, and whose doing that can have been. Pure; who is to blame, the cache says."""

from __future__ import annotations

import signal
from enum import Enum
from typing import NamedTuple

from msgspec import Struct

from mme.workers import descriptors, full
from mme.workers.residency import Residency


class Doing(Enum):
    """Who can have ended a worker."""

    MODEL = "a model that it was at"
    ANYONE = "such a model, or somebody outside: the kernel, for memory, or an operator"
    BATCH = "what it predicted, and nobody else"
    LOAD = "what it loaded, and nobody else"
    NOBODY = "no model"


class Cause(NamedTuple):
    """Why a worker ended, in words, and whose doing that is."""

    words: str
    doing: Doing = Doing.NOBODY
    model: str = ""  # that did it; "": whichever the worker was at


class Suspects(Struct, frozen=True, kw_only=True):
    """What a worker was at when it ended, as far as that can be why."""

    batch: Residency | None = None
    has_answered: bool = False  # the batch's model, since it came to this worker
    loading: str = ""  # content; "": no load
    is_sure: bool = True  # that it was one of them


def cause_of(code: int, killed: Cause | None) -> Cause:
    """Why a process ended.

    Args:
        code: its exit status; below zero, the signal that killed it.
        killed: why the server killed it, if it did.
    """
    if code == full.STATUS:
        return Cause("a model took all the memory that it may", Doing.BATCH)
    if code in {descriptors.SHORT_STATUS, descriptors.JUST_SHORT_STATUS}:
        is_old = code == descriptors.SHORT_STATUS
        return Cause("its descriptors were used up", Doing.NOBODY if is_old else Doing.ANYONE)
    if code >= 0:
        return Cause(f"it exited with status {code}", Doing.MODEL)
    name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
    if name != "SIGKILL":
        return Cause(f"it was killed by {name}", Doing.MODEL)
    return killed or Cause(f"it was killed by {name}", Doing.ANYONE)


def suspects(
    doing: Doing, *, batch: Residency | None, has_answered: bool, loading: str
) -> Suspects:
    """Those of what a worker was at that can have ended it."""
    match doing:
        case Doing.MODEL | Doing.ANYONE:
            is_sure = doing is Doing.MODEL
            return Suspects(
                batch=batch, has_answered=has_answered, loading=loading, is_sure=is_sure
            )
        case Doing.BATCH:
            return Suspects(batch=batch, has_answered=has_answered)
        case Doing.LOAD:
            return Suspects(loading=loading)
        case Doing.NOBODY:
            return Suspects()

"""A model that fills its worker's memory, under a limit, ends it: nobody else could be answered.

Decision: judged after each batch, by what it has added and what is left; so the request that did it
is the one that fails, and a model that does it again and again is quarantined for it. Left to the
next MemoryError, that would be an innocent one's. Not a word about workers without a limit.
"""

from __future__ import annotations

import functools
import os
import resource
from collections.abc import Callable
from typing import Final, TypeVar

from mme.workers import memory

STATUS: Final = 112  # of a worker that ended so
_LEFT_RATIO = 1 / 16  # of the limit: less is none
_Asked = TypeVar("_Asked")
_Answered = TypeVar("_Answered")


def unless_filled(work: Callable[[_Asked], _Answered], asked: _Asked) -> _Answered:
    """What `work` gives for `asked`; if it has filled the memory meanwhile, this process ends."""
    limit_bytes = _limit_bytes()
    if limit_bytes is None:
        return work(asked)
    least_bytes = int(_LEFT_RATIO * limit_bytes)
    try:
        bound_bytes = max(limit_bytes - least_bytes, memory.data_bytes() + least_bytes)
        answered = work(asked)
        if memory.data_bytes() > bound_bytes:
            memory.give_back()
            if memory.data_bytes() > bound_bytes:
                os._exit(STATUS)
    except MemoryError:  # `work` answers its own: not even these few lines have room
        os._exit(STATUS)
    return answered


@functools.cache
def _limit_bytes() -> int | None:
    limit_bytes = resource.getrlimit(resource.RLIMIT_DATA)[0]  # set before the first batch
    return None if limit_bytes == resource.RLIM_INFINITY else limit_bytes

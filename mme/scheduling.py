"""How the system's scheduler is to treat a thread of ours."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


def push_nobody_aside() -> None:
    """From now on this thread waits for a free processor, or its turn, when it is woken.

    Others that are woken stop who runs at the moment: to stop the one that holds the interpreter
    makes all threads of its process wait.
    """
    _schedule(os.SCHED_BATCH)


@contextlib.contextmanager
def as_any_other(*, is_so: bool = True) -> Iterator[None]:
    """This thread may push others aside meanwhile, and so may those that it starts, for good.

    Args:
        is_so: else nothing is different.
    """
    policy = os.SCHED_OTHER
    with contextlib.suppress(OSError):  # where that may not be asked, nor was it chosen
        policy = os.sched_getscheduler(0)
    if not is_so or policy == os.SCHED_OTHER:
        yield
        return
    _schedule(os.SCHED_OTHER)
    try:
        yield
    finally:
        _schedule(policy)


def _schedule(policy: int) -> None:
    with contextlib.suppress(OSError):  # where that may not be chosen
        os.sched_setscheduler(0, policy, os.sched_param(0))

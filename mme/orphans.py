"""Descendants whose parent has gone: this process gets them, and waits for them when they end.

Decision: it asks for them (`PR_SET_CHILD_SUBREAPER`). As the first process of an image it gets them
anyway, and those that nobody waits for stay zombies until no process can be had; elsewhere they
are init's, which may take its time, and meanwhile a group that has ended still seems to be there.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

_SET_CHILD_SUBREAPER: Final = 36
_LOOK_SECONDS: Final = 1.0
_GONE_SECONDS: Final = 1.0  # for what was killed
_FIRST_PAUSE_SECONDS: Final = 0.001
_ANY: Final = -1  # waitpid's


@contextlib.asynccontextmanager
async def orphans_collected() -> AsyncIterator[None]:
    """Within, this process gets the orphans among its descendants; at the end none is left.

    Only what leaves its process group outlives what has started it, and is killed then.
    """
    if (prctl := getattr(ctypes.CDLL(None), "prctl", None)) is not None:  # Linux's
        prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    collecting = asyncio.create_task(_collect(), name="orphans")
    try:
        yield
    finally:
        collecting.cancel()
        await _end_all()


async def _collect() -> None:
    """Waits for children that nobody else waits for.

    Those are the ones that had ended at the last look, a second ago: who has a child of its own
    waits for it at once.
    """
    before: set[int] = set()
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        ended = await asyncio.to_thread(_ended) if _any_ended() else set()
        for orphan in ended & before:
            _wait_for(orphan)
        before = ended


async def end_group(group: int) -> None:
    """Kills what is left of a process group whose leader was waited for, and waits for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    await reap_group(group)


async def reap_group(group: int) -> None:
    """Waits for what is left of a killed process group whose leader was waited for.

    What takes longer than a second to go is waited for later, by `orphans_collected`.
    """
    pause_seconds = _FIRST_PAUSE_SECONDS
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GONE_SECONDS):
            while (ended := _wait_for(-group)) is not None:
                if not ended:
                    await asyncio.sleep(pause_seconds)
                    pause_seconds *= 2


async def _end_all() -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GONE_SECONDS):
            while (ended := _wait_for(_ANY)) is not None:
                if not ended:
                    for child in await asyncio.to_thread(_children):
                        with contextlib.suppress(PermissionError):  # it became another user's
                            os.kill(child, signal.SIGKILL)
                    await asyncio.sleep(_FIRST_PAUSE_SECONDS)


def _wait_for(children: int) -> bool | None:
    """Whether one of them, in `waitpid`'s terms, had ended; None: there are none such."""
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(children, os.WNOHANG) != (0, 0)
    return None


def _any_ended() -> bool:
    with contextlib.suppress(ChildProcessError):  # there are none
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return False


def _ended() -> set[int]:
    return {child for child, state in _children().items() if state == b"Z"}


def _children() -> dict[int, bytes]:
    """This process's children and their states, as `ps` has them."""
    us, found, names = str(os.getpid()).encode(), {}, list[str]()
    with contextlib.suppress(OSError):  # there is no /proc, or none that can be opened
        names = os.listdir("/proc")  # noqa: PTH208 - thousands, in each look
    for name in filter(str.isdigit, names):
        with contextlib.suppress(OSError):  # it is gone
            state, parent, *_ = Path(f"/proc/{name}/stat").read_bytes().rpartition(b") ")[2].split()
            if parent == us:
                found[int(name)] = state
    return found

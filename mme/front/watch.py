"""Files that may be replaced while we run: have they changed since they were last looked at.

Decision: a change counts once the files have rested: two looks found the same, or the newest was
written five seconds before (who is seldom asked must not keep a revoked key for long). One that is
being written may be valid and say something else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

_LOOK_SECONDS = 1.0
_REST_SECONDS = 5.0
_Identity = tuple[tuple[int, int, int] | None, ...]


class Watch:
    """Looks at most once a second, which takes microseconds.

    Args:
        paths: the files.
        clock: in seconds, monotonic.
    """

    def __init__(self, paths: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._paths = paths
        self._clock = clock
        self._taken = self._seen = self._look()
        self._due = clock() + _LOOK_SECONDS

    def changed(self) -> bool:
        """Whether any has since the last time that this said so, or since the start, and rests."""
        now = self._clock()
        if now < self._due:
            return False
        self._due = now + _LOOK_SECONDS
        before, self._seen = self._seen, self._look()
        if self._seen == self._taken or not (self._seen == before or _rested(self._seen)):
            return False
        self._taken = self._seen
        return True

    def _look(self) -> _Identity:
        return tuple(map(_identity, self._paths))


def _identity(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path would be made each time
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _rested(found: _Identity) -> bool:
    latest_ns = time.time_ns() - _REST_SECONDS * 1e9
    return all(one is not None and one[0] < latest_ns for one in found)

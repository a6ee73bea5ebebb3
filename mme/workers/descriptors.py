"""A worker whose descriptors are used up: what fails there is not the fault of who asked.

Decisions: the lowest free number tells, for that is what the next file gets, and to ask for it
needs no /proc, which may be hidden. A heartbeat tells the server, which replaces the worker as one
that keeps too much memory. What fails before that ends the worker, so that loads and requests are
tried again as after any end. It is held against nobody where they were used up before; else it may
have been who failed.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from typing import Final

from mme.workers.protocol import CallFailed, Compile, Faulted, Load, Loaded, Predicted

SHORT_STATUS: Final = 113  # of a worker that ended so: they had been used up before
JUST_SHORT_STATUS: Final = 114  # ... while it was at what failed
_USED_UP_RATIO = 0.9  # of the limit


class Descriptors:
    """Those of this process.

    Args:
        open_fd: one that is open for as long as the worker lives.
    """

    def __init__(self, open_fd: int) -> None:
        self._open_fd = open_fd
        self._was_short = False  # at the last heartbeat

    def look(self) -> bool:
        """Whether they are used up, for a heartbeat."""
        self._was_short = self._is_short()
        return self._was_short

    def unless_short(
        self, work: Callable[[Load | Compile], Loaded | CallFailed], asked: Load | Compile
    ) -> Loaded | CallFailed:
        """What `work` gives for `asked`; this process ends if it had or has no descriptors left."""
        if self._is_short():
            os._exit(SHORT_STATUS)
        answered = work(asked)
        if isinstance(answered, CallFailed) and self._is_short():
            os._exit(JUST_SHORT_STATUS)
        return answered

    def sound(self, predicted: Predicted) -> Predicted:
        """The same, unless something failed while there were none left: then this process ends."""
        if Faulted in map(type, predicted.results) and self._is_short():
            os._exit(SHORT_STATUS if self._was_short else JUST_SHORT_STATUS)
        return predicted

    def _is_short(self) -> bool:
        try:
            number = os.dup(self._open_fd)
        except OSError as error:
            return error.errno in {errno.EMFILE, errno.ENFILE}
        os.close(number)
        return number >= _USED_UP_RATIO * resource.getrlimit(resource.RLIMIT_NOFILE)[0]

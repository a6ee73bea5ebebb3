"""Pools whose threads are all there from the start.

Decision: the standard one starts a thread when work comes, and where none can be had (a limit of
processes that others have used up) it raises, but keeps the work: whoever gets a thread later does
it, for nobody, or waits in it for ever.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError

from mme.errors import ConfigError

_START_SECONDS = 30.0


class Threads(ThreadPoolExecutor):
    """`count` threads, which wait for work.

    Raises:
        ConfigError: so many can't be had.
    """

    def __init__(self, count: int, name: str) -> None:
        super().__init__(count, name)
        begun = Barrier(count + 1)
        try:
            for _ in range(count):
                self.submit(begun.wait, _START_SECONDS)
            begun.wait(_START_SECONDS)
        except (RuntimeError, BrokenBarrierError) as error:
            begun.abort()
            self.shutdown(cancel_futures=True)
            raise ConfigError(
                f"This system lets the server start no {count} threads more ({name}): its limit "
                "of processes and threads is too low."
            ) from error

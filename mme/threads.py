"""Pools whose threads are all there from the start, and of which work wakes one.

Decisions: the standard pool starts a thread when work comes, and where none can be had (a limit of
processes that others have used up) it raises, but keeps the work: whoever gets a thread later does
it, for nobody, or waits in it for ever. Its queue also wakes a second thread for each work, which
finds nothing and takes the interpreter for that. Here each waits for its own work, and the one that
waited least gets the next: its caches are warm.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from threading import Lock, Thread
from typing import Any, ParamSpec, TypeAlias, TypeVar

from mme.errors import ConfigError
from mme.scheduling import push_nobody_aside

P = ParamSpec("P")
T = TypeVar("T")
_Work: TypeAlias = "tuple[Future[Any], Callable[[], Any]]"


class PoolThread(Thread):
    """One of a pool's; it keeps nobody who ends from ending."""

    def __init__(self, name: str, queue: _Queue) -> None:
        super().__init__(name=name, daemon=True)
        self._queue = queue
        self._work: _Work | None = None
        self._woken = Lock()
        self._woken.acquire()

    def wake(self, work: _Work | None) -> None:
        """Gives it work, for which it waits; None: there will be none any more."""
        self._work = work
        self._woken.release()

    def wait(self) -> _Work | None:
        """Returns what it is given."""
        self._woken.acquire()
        work, self._work = self._work, None
        return work

    def run(self) -> None:
        """Works until there will be nothing any more."""
        push_nobody_aside()
        while (work := self._queue.next_for(self)) is not None:
            _do(*work)
            del work  # and with it what it holds


class Threads(Executor):
    """`count` threads, which wait for work; they end with it, if not before.

    Raises:
        ConfigError: so many can't be had.
    """

    def __init__(self, count: int, name: str) -> None:
        self._queue = _Queue()
        self._threads = [PoolThread(f"{name}_{number}", self._queue) for number in range(count)]
        self._end = weakref.finalize(self, self._queue.end)
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            self.shutdown()
            raise ConfigError(
                f"This system lets the server start no {count} threads more ({name}): its limit "
                "of processes and threads is too low."
            ) from error

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As any Executor's. Raises RuntimeError after `shutdown`."""
        future: Future[T] = Future()
        self._queue.put((future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As any Executor's: what was given is done, and the threads end."""
        if cancel_futures:
            self._queue.cancel()
        self._end()
        if wait:
            for thread in self._threads:
                if thread.ident is not None:  # it was started
                    thread.join()


class _Queue:
    """Works and threads that wait for each other."""

    def __init__(self) -> None:
        self._lock = Lock()  # of all of these
        self._idle: list[PoolThread] = []  # the last one began to wait last
        self._works: deque[_Work] = deque()  # for which none was idle
        self._is_ended = False

    def put(self, work: _Work) -> None:
        with self._lock:
            if self._is_ended:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._idle:
                self._idle.pop().wake(work)
            else:
                self._works.append(work)

    def next_for(self, thread: PoolThread) -> _Work | None:
        with self._lock:
            if self._works:
                return self._works.popleft()
            if self._is_ended:
                return None
            self._idle.append(thread)
        return thread.wait()

    def cancel(self) -> None:
        with self._lock:
            for future, _ in self._works:
                future.cancel()

    def end(self) -> None:
        with self._lock:
            self._is_ended = True
            for thread in self._idle:
                thread.wake(None)
            self._idle.clear()


def _do(future: Future[T], call: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
        future.set_exception(error)
        del future  # which holds the error, which holds this frame
    else:
        future.set_result(result)

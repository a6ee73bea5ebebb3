"""Single flight: one running call a key; its waiters may be cancelled, the call is not.

Each waiter has a future of its own, and what it gets is made for it by `share` in the very step in
which the call ends: so a lease can be handed over before anyone else has a chance to evict. A
waiter cancelled after that gives its share back through `reclaim`. Rejected: one shielded task for
all, which leaves a gap between the end and the first waiter's next step.
Calls that have not begun and that all have left go on, but only so many: who asks and leaves would
queue calls without bound else. Who was left first goes first.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeAlias, TypeVar

from mme.errors import Draining

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")
Share = TypeVar("Share")
_Waiters: TypeAlias = "dict[asyncio.Future[Share], None]"  # in the order in which they came


class Flight(Generic[Key, Result, Share]):
    """Calls in progress, by key.

    Args:
        share: makes one waiter's part of a result; called without a suspension after the call
            returned.
        reclaim: takes a part back whose waiter was cancelled.
        left_limit: calls that may go on though all have left them; those that `begin` always may.
    """

    def __init__(
        self,
        share: Callable[[Result], Share],
        reclaim: Callable[[Share], None],
        left_limit: float = math.inf,
    ) -> None:
        self._share = share
        self._reclaim = reclaim
        self._left_limit = left_limit
        self._waiters: dict[Key, _Waiters[Share]] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._begun: set[Key] = set()
        self._left: dict[Key, None] = {}  # not begun; who was left first is first
        self._given_up: set[asyncio.Task[None]] = set()  # until they have ended
        self._is_closed = False

    def __contains__(self, key: Key) -> bool:
        return key in self._tasks

    def keys(self) -> list[Key]:
        """What is being called for now."""
        return list(self._tasks)

    def start(self, key: Key, call: Callable[[], Awaitable[Result]]) -> None:
        """Starts `call` unless one is running for `key`, or the flight was closed.

        Without a waiter its error is dropped.
        """
        if key not in self._tasks and not self._is_closed:
            waiters = self._waiters[key] = {}
            running = self._run(key, call, waiters)
            self._tasks[key] = asyncio.create_task(running, name=f"flight {key!r}")

    async def join(self, key: Key, call: Callable[[], Awaitable[Result]]) -> Share:
        """Waits for the running call, or starts it.

        Raises:
            what the call raised, the same to every waiter; Draining when the flight was closed.
        Cancellation: only this waiter stops waiting.
        """
        if self._is_closed:
            raise _draining()
        self.start(key, call)
        waiter: asyncio.Future[Share] = asyncio.get_running_loop().create_future()
        self._waiters[key][waiter] = None
        self._left.pop(key, None)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._reclaim(waiter.result())
            self._leave(key, waiter)
            raise

    def begin(self, key: Key) -> None:
        """Says that a call has its turn, and goes on from now on, whoever leaves it."""
        if key in self._tasks:
            self._begun.add(key)
            self._left.pop(key, None)

    async def close(self) -> None:
        """Cancels what runs and waits for it to end; nothing starts any more."""
        self._is_closed = True
        tasks = (*self._tasks.values(), *self._given_up)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for key, waiters in tuple(self._waiters.items()):  # those cancelled before their first step
            self._fail(key, waiters, _draining())

    def _leave(self, key: Key, waiter: asyncio.Future[Share]) -> None:
        waiters = self._waiters.get(key, {})
        if waiter not in waiters:
            return  # the call has ended
        del waiters[waiter]
        if waiters or key in self._begun:
            return
        self._left[key] = None
        if len(self._left) > self._left_limit:
            self._give_up(next(iter(self._left)))

    def _give_up(self, key: Key) -> None:
        """Cancels a call that all have left; who asks for `key` next starts another."""
        task = self._tasks[key]
        self._land(key, self._waiters[key])
        self._given_up.add(task)
        task.add_done_callback(self._given_up.discard)
        task.cancel()

    async def _run(
        self, key: Key, call: Callable[[], Awaitable[Result]], waiters: _Waiters[Share]
    ) -> None:
        try:
            result = await call()
        except asyncio.CancelledError:
            self._fail(key, waiters, _draining())
        except BaseException as error:  # noqa: BLE001 - handed on whole to every waiter
            self._fail(key, waiters, error)
        else:
            for waiter in self._land(key, waiters):
                waiter.set_result(self._share(result))

    def _fail(self, key: Key, waiters: _Waiters[Share], error: BaseException) -> None:
        for waiter in self._land(key, waiters):
            waiter.set_exception(error)

    def _land(self, key: Key, waiters: _Waiters[Share]) -> list[asyncio.Future[Share]]:
        if self._waiters.get(key) is not waiters:
            return []  # it was given up
        del self._waiters[key], self._tasks[key]
        self._begun.discard(key)
        self._left.pop(key, None)
        return [waiter for waiter in waiters if not waiter.done()]


def _draining() -> Draining:
    return Draining("The server is shutting down.")

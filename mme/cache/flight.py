"""Single flight: one running call a key; its waiters may be cancelled, the call is not.

Each waiter has a future of its own, and what it gets is made for it by `share` in the very step in
which the call ends: so a lease can be handed over before anyone else has a chance to evict. A
waiter cancelled after that gives its share back through `reclaim`. Rejected: one shielded task for
all, which leaves a gap between the end and the first waiter's next step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from mme.errors import Draining

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")
Share = TypeVar("Share")


class Flight(Generic[Key, Result, Share]):
    """Calls in progress, by key.

    Args:
        share: makes one waiter's part of a result; called without a suspension after the call
            returned.
        reclaim: takes a part back whose waiter was cancelled.
    """

    def __init__(self, share: Callable[[Result], Share], reclaim: Callable[[Share], None]) -> None:
        self._share = share
        self._reclaim = reclaim
        self._waiters: dict[Key, list[asyncio.Future[Share]]] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._tasks

    def keys(self) -> list[Key]:
        """What is being called for now."""
        return list(self._tasks)

    def start(self, key: Key, call: Callable[[], Awaitable[Result]]) -> None:
        """Starts `call` unless one is running for `key`; without a waiter its error is dropped."""
        if key not in self._tasks:
            self._waiters[key] = []
            self._tasks[key] = asyncio.create_task(self._run(key, call), name=f"flight {key!r}")

    async def join(self, key: Key, call: Callable[[], Awaitable[Result]]) -> Share:
        """Waits for the running call, or starts it.

        Raises:
            what the call raised, the same to every waiter; Draining when the flight was closed.
        Cancellation: only this waiter stops waiting.
        """
        self.start(key, call)
        waiter: asyncio.Future[Share] = asyncio.get_running_loop().create_future()
        self._waiters[key].append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._reclaim(waiter.result())
            raise

    async def close(self) -> None:
        """Cancels what runs and waits for it to end."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for key in tuple(self._tasks):  # cancelled before its first step
            self._fail(key, Draining("The server is shutting down."))

    async def _run(self, key: Key, call: Callable[[], Awaitable[Result]]) -> None:
        try:
            result = await call()
        except asyncio.CancelledError:
            self._fail(key, Draining("The server is shutting down."))
        except BaseException as error:  # noqa: BLE001 - handed on whole to every waiter
            self._fail(key, error)
        else:
            for waiter in self._land(key):
                waiter.set_result(self._share(result))

    def _fail(self, key: Key, error: BaseException) -> None:
        for waiter in self._land(key):
            waiter.set_exception(error)

    def _land(self, key: Key) -> list[asyncio.Future[Share]]:
        del self._tasks[key]
        return [waiter for waiter in self._waiters.pop(key) if not waiter.done()]

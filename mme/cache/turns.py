"""Whose load comes next: so many at once, those that someone waits for before those made ahead.

Decision: those that someone waits for take turns by tenant, by the seconds that each tenant's loads
took; those made ahead by their order. Urgency is a load's own and may rise while it waits, never
fall: the first request that joins a load made ahead raises it. One that has its turn keeps it; who
loads ahead therefore asks for few turns at once.
While predictions are late, fewer have a turn at once; but one begins every now and then whatever
waits, so that neither a slow load nor a server that is always busy keeps the others for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from types import MappingProxyType
from typing import Any, Final, Generic, TypeAlias, TypeVar

from mme.workers.fairness import FairQueue, Share

_EXPECTED_SECONDS: Final = 0.1  # of a load that has only begun
_PATIENCE_SECONDS: Final = 0.02  # since a load began, until the next one may, whatever is late

Key = TypeVar("Key", bound=Hashable)
Waiter: TypeAlias = "asyncio.Future[Share[Any] | None]"  # whose turn it is; nobody's, made ahead


class Turns(Generic[Key]):
    """Turns for loads, by key. Not thread-safe: one event loop owns it.

    Args:
        count: how many are taken at once, at most.
        weights: of tenants, where they are not 1.
        while_late: how many at once for now, so that predictions come first. None: `count`.
    """

    def __init__(
        self,
        count: int,
        weights: Mapping[str, float] = MappingProxyType({}),
        while_late: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._free = self._count = count
        self._while_late = while_late
        self._patient_until = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._urgent: FairQueue[Waiter] = FairQueue(weights)
        self._ahead: dict[Waiter, tuple[Key, str]] = {}  # who came first is first

    @contextlib.asynccontextmanager
    async def turn(
        self, key: Key, tenant: str = "", *, ahead: Callable[[], bool] = lambda: False
    ) -> AsyncIterator[Callable[[float], Awaitable[None]]]:
        """Waits for a turn, and has it while entered; but while it pauses, by what is yielded.

        Whether it is made `ahead` is asked at each wait.
        Cancellation: its place goes to the next.
        """
        async with contextlib.AsyncExitStack() as held:
            await held.enter_async_context(self._held(key, tenant, ahead=ahead()))

            async def pause(seconds: float) -> None:
                """Lets others have the turn for so long, and waits for the next."""
                await held.aclose()
                await asyncio.sleep(seconds)
                await held.enter_async_context(self._held(key, tenant, ahead=ahead()))

            yield pause

    @contextlib.asynccontextmanager
    async def _held(self, key: Key, tenant: str, *, ahead: bool) -> AsyncIterator[None]:
        share = await self._wait(key, tenant, ahead=ahead)
        began = time.monotonic()
        try:
            yield
        finally:
            if share is not None:
                share.charge(time.monotonic() - began - _EXPECTED_SECONDS)
            self._pass_on()

    def hurry(self, key: Key) -> None:
        """Someone waits for `key` now: where it waits as made ahead, it does so no longer."""
        for waiter, (ahead, tenant) in tuple(self._ahead.items()):
            if ahead == key:
                del self._ahead[waiter]
                self._urgent.put(tenant, waiter)

    async def _wait(self, key: Key, tenant: str, *, ahead: bool) -> Share[Any] | None:
        waiter: Waiter = asyncio.get_running_loop().create_future()
        if ahead:
            self._ahead[waiter] = key, tenant
        else:
            self._urgent.put(tenant, waiter)
        self._give()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._ahead.pop(waiter, None)
            if waiter.done() and not waiter.cancelled():
                self._pass_on()  # it was given the turn in the same moment
            raise

    def _pass_on(self) -> None:
        self._free += 1
        self._give()

    def _give(self) -> None:
        while self._free and (self._urgent or self._ahead) and not self._holds_back():
            share: Share[Any] | None = None
            if self._urgent:
                share, waiter = self._urgent.take()
            else:
                waiter = next(iter(self._ahead))
                del self._ahead[waiter]
            if waiter.done():
                continue  # who waited was cancelled
            if share is not None:
                share.charge(_EXPECTED_SECONDS)
            waiter.set_result(share)
            self._free -= 1
            self._patient_until = time.monotonic() + _PATIENCE_SECONDS

    def _holds_back(self) -> bool:
        """Whether the next one is to wait for predictions; it is looked at again then."""
        limit = self._while_late()
        wait_seconds = self._patient_until - time.monotonic()
        if limit is None or self._count - self._free < limit or wait_seconds <= 0:
            return False
        if self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(wait_seconds, self._look_again)
        return True

    def _look_again(self) -> None:
        self._alarm = None
        self._give()

"""Whether a container that runs elsewhere is healthy: its ping, asked again and again.

Decisions: one good ping is enough to be healthy, three bad ones in a row are needed to be no more,
for a busy container may miss one; a bad one is soon followed by the next, so that three take
seconds. A container that has had no good ping for its whole start-up time, and three bad ones, has
expired (after a pause of the machine one bad ping may be all that there was since): what that means
is its owner's to say.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from mme.metrics import ContainerMetrics

_log = structlog.get_logger()
CONTAINER_HEALTHY: Final = "container_healthy"
CONTAINER_UNHEALTHY: Final = "container_unhealthy"
_BAD_IN_A_ROW: Final = 3
_STEADY_PAUSE_SECONDS: Final = 5.0
_FIRST_PAUSE_SECONDS: Final = 0.25  # after a bad ping; doubles up to the limit
_PAUSE_LIMIT_SECONDS: Final = 1.0


class Health:
    """One container's health.

    Args:
        name: the container's hostname.
        ask: one ping: None when it is well, else what is wrong, as the end of a sentence.
        startup_seconds: within which there has to be a good ping.
        metrics: shows it, where there are any.
        on_recovery: called with the first good ping after bad ones.
    """

    def __init__(
        self,
        name: str,
        ask: Callable[[], Awaitable[str | None]],
        *,
        startup_seconds: float,
        metrics: ContainerMetrics | None,
        on_recovery: Callable[[], None],
    ) -> None:
        self._name = name
        self._ask = ask
        self._startup_seconds = startup_seconds
        self._metrics = metrics
        self._on_recovery = on_recovery
        self._task: asyncio.Task[None] | None = None
        self._begun = asyncio.Event()
        self._starts = 0
        self.expired = asyncio.Event()  # set while there was no good ping for the start-up time
        self.begin()

    @property
    def is_healthy(self) -> bool:
        """Whether its pings are good."""
        return self._is_healthy

    def begin(self) -> None:
        """It is starting now: nothing is known of it, and a ping under way tells nothing."""
        self._starts += 1
        self._begun.set()
        self._is_healthy = False
        self._has_been_healthy = False
        self._bad_pings = 0
        self._last: str | None = None
        self._good_at = asyncio.get_running_loop().time()
        self.expired.clear()
        self._show()

    def start(self) -> None:
        """Asks from now on."""
        self._task = asyncio.create_task(self._watch(), name=f"health of {self._name}")

    async def close(self) -> None:
        """Asks no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def problem(self) -> str | None:
        """Why it can't answer now; None when it can."""
        if self._is_healthy:
            return None
        if self.expired.is_set() and not self._has_been_healthy:
            return (
                f"container {self._name}: it has not answered its ping within"
                f" {self._startup_seconds:g} s of starting; last: {self._last}"
            )
        return f"container {self._name}: {self._last or 'it has not been pinged yet'}"

    def describe(self) -> dict[str, object]:
        """Its state, for `/state`."""
        return {"healthy": self._is_healthy, "last_ping": self._last or "good"}

    def record(self, bad: str | None, now: float) -> None:
        """Takes a ping's result in."""
        was_healthy, self._last = self._is_healthy, bad
        if bad is None:
            recovers = self._bad_pings > 0 or not was_healthy
            self._is_healthy = self._has_been_healthy = True
            self._bad_pings, self._good_at = 0, now
            self.expired.clear()
            if recovers:
                self._on_recovery()
        else:
            self._bad_pings += 1
            if self._bad_pings >= _BAD_IN_A_ROW:
                self._is_healthy = False
                if now - self._good_at >= self._startup_seconds:
                    self.expired.set()
        if self._is_healthy != was_healthy:
            self._show()
            self._log_change()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        pause_seconds = _FIRST_PAUSE_SECONDS
        while True:
            starts = self._starts
            bad = await self._ask()
            if starts == self._starts:
                self.record(bad, loop.time())
            if bad is None or starts != self._starts:
                pause_seconds = _FIRST_PAUSE_SECONDS
            await self._pause(_STEADY_PAUSE_SECONDS if bad is None else pause_seconds)
            pause_seconds = min(2 * pause_seconds, _PAUSE_LIMIT_SECONDS)

    async def _pause(self, seconds: float) -> None:
        """Waits, or until it starts anew."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._begun.wait()
        self._begun.clear()

    def _show(self) -> None:
        if self._metrics is not None:
            self._metrics.up.set(self._is_healthy)

    def _log_change(self) -> None:
        if self._is_healthy:
            _log.info(CONTAINER_HEALTHY, container=self._name)
        else:
            _log.error(CONTAINER_UNHEALTHY, container=self._name, reason=self._last)

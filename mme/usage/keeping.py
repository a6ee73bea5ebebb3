"""Every few seconds: what was counted is taken, shown to the metrics, and written down by a thread.

What can't be written (a full disk) is kept, summed up a model, and tried again with what came
since; past so many models the rest is given up and counted. Nothing here fails a request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from mme.errors import InvalidRequest, UsageUnreadable
from mme.threads import Threads
from mme.usage.account import Usage
from mme.usage.accounts import Accounts
from mme.usage.book import Book, read_book
from mme.usage.statement import Statement, Window
from mme.usage.top import TopModels

_log = structlog.get_logger()
_PAUSE_SECONDS = 3.0  # what a killed server forgets
_CHUNK = 1_000  # accounts seen to in one go of the event loop's, in about a millisecond
_SETTLED = 5_000  # of those that only lie in memory, each time; with more of them they take turns
_UNWRITTEN_LIMIT = 100_000  # models

Result = TypeVar("Result")


class Keeper:
    """Takes what is counted in the accounts.

    Args:
        accounts: where it is counted.
        top: told of it, too.
        clock: the wall clock, in seconds since 1970.
    """

    def __init__(
        self, accounts: Accounts, top: TopModels, clock: Callable[[], float] = time.time
    ) -> None:
        self.lost_models = 0  # whose usage had to be given up, as it could not be written
        self.accounts = accounts
        self.top = top
        self._clock = clock
        self._book: Book | None = None
        self._path: Path | None = None
        self._thread = Threads(1, "ledger")
        self._turn = asyncio.Lock()
        self._passing: asyncio.Task[None] | None = None
        self._taken: list[Usage] = []
        self._unwritten: dict[str, Usage] = {}
        self._shown_at = time.monotonic()

    @property
    def is_writing(self) -> bool:
        """Whether there is a ledger."""
        return self._book is not None

    @property
    def unwritten_count(self) -> int:
        """Models whose usage waits for being written."""
        return len(self._unwritten)

    async def open(self, path: Path, days: int) -> None:
        """Opens the ledger. Raises ConfigError."""
        self._book = await self._in_thread(partial(Book, path, days))
        self._path = path

    async def run(self) -> None:
        """Keeps it up to a few seconds ago. Cancellation: nothing is lost."""
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Writes down what was counted until now. Cancellation: nothing is lost."""
        async with self._turn:
            if self._passing is not None:  # who waited for it may have been cancelled
                await asyncio.wait([self._passing])
            accounts = self.accounts
            for count in _chunks(min(accounts.holding_count, _SETTLED)):
                accounts.settle(count)
                await asyncio.sleep(0)
            for count in _chunks(accounts.noted_count):
                self._taken += accounts.take(count)
                await asyncio.sleep(0)
            self._passing = asyncio.create_task(self._pass_on(), name="ledger")
            await asyncio.shield(self._passing)

    async def read(self, window: Window) -> Statement:
        """What was used, until now.

        Raises:
            InvalidRequest: there is no ledger.
            UsageUnreadable: it can't be read.
        """
        if self._path is None:
            raise InvalidRequest("This server keeps no ledger (--ledger off, or its log says why).")
        await self.write()
        return await asyncio.to_thread(read_book, self._path, window)

    async def close(self) -> None:
        """Writes the rest and closes the ledger."""
        await self.write()
        if self._book is not None:
            await self._in_thread(self._book.close)
        self._thread.shutdown()

    async def _pass_on(self) -> None:
        taken, self._taken = self._taken, []
        now = time.monotonic()
        seconds, self._shown_at = now - self._shown_at, now
        await self._in_thread(partial(self.top.add, taken, seconds))
        if self._book is None or not (taken or self._unwritten):
            return
        usages = [*self._unwritten.values(), *taken]
        try:
            await self._in_thread(partial(self._book.add, usages, self._clock()))
        except UsageUnreadable as error:
            if not self._unwritten:
                _log.error("ledger_not_written", reason=str(error))
            self._keep(taken)
        else:
            if self._unwritten:
                _log.info("ledger_written_again", models=len(self._unwritten))
            self._unwritten.clear()

    def _keep(self, taken: list[Usage]) -> None:
        for usage in taken:
            known = self._unwritten.get(usage.model)
            if known is not None:
                self._unwritten[usage.model] = known.plus(usage)
            elif len(self._unwritten) < _UNWRITTEN_LIMIT:
                self._unwritten[usage.model] = usage
            else:
                self.lost_models += 1

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _chunks(count: int) -> Iterator[int]:
    for start in range(0, count, _CHUNK):
        yield min(_CHUNK, count - start)

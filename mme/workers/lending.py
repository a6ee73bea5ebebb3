"""A model's files, put where one worker may read them: from before its load until it has left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from mme.errors import DiskUnavailable, WorkerLost
from mme.workers.residency import LoadRequest
from mme.workers.sandbox_scratch import Scratch, ScratchDeleted


class Lending:
    """What a worker was lent.

    Args:
        scratch: its own directory.
        on_deleted: ends the worker, whose directory somebody deleted.
    """

    def __init__(self, scratch: Scratch, on_deleted: Callable[[], Awaitable[None]]) -> None:
        self._scratch = scratch
        self._on_deleted = on_deleted
        self._kept: set[str] = set()

    @contextlib.asynccontextmanager
    async def lent(self, wanted: LoadRequest) -> AsyncIterator[str]:
        """Where the worker may read the model's files, for now; `keep` lets them stay there.

        Raises (on entering):
            WorkerLost: the worker has ended.
            DiskUnavailable: they could not be put there.
        """
        directory = Path(wanted.directory)
        try:
            lent = await asyncio.to_thread(self._scratch.lend, wanted.model, directory)
        except ScratchDeleted as error:
            await self._on_deleted()
            raise WorkerLost("The worker's directory was deleted.", started=False) from error
        except OSError as error:
            if self._scratch.is_removed:
                raise WorkerLost("The worker has ended.", started=False) from error
            raise DiskUnavailable(
                f"The model can't be put before its worker: {error.strerror}."
            ) from error
        try:
            yield str(lent)
        finally:
            if wanted.model not in self._kept:
                self.take_back([wanted.model])

    def keep(self, model: str) -> None:
        """The model was loaded: until it is taken back, its files stay."""
        self._kept.add(model)

    def take_back(self, models: list[str]) -> None:
        """Removes the files of models; nobody waits for it, for their memory is back."""
        self._kept.difference_update(models)
        asyncio.get_running_loop().run_in_executor(None, self._scratch.take_back, models)

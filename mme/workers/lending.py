"""A model's files, put where one worker may read them: from before its load until it has left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

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

    async def lend(self, wanted: LoadRequest) -> str:
        """Where the worker may read the model's files until they are taken back.

        Raises:
            WorkerLost: the worker has ended.
            DiskUnavailable: they could not be put there.
        Cancellation: what has begun goes on, and is taken back once it is done.
        """
        model, directory, lent = wanted.model, wanted.directory, None
        try:
            if wanted.files is not None:
                lent = self._scratch.lend_few(model, directory, wanted.files)
            if self._scratch.is_low:
                asyncio.get_running_loop().run_in_executor(None, self._scratch.stock)
            if lent is not None:
                return lent
            return await self._lend(model, directory)
        except ScratchDeleted as error:
            await self._on_deleted()
            raise WorkerLost("The worker's directory was deleted.", started=False) from error
        except OSError as error:
            if self._scratch.is_removed:
                raise WorkerLost("The worker has ended.", started=False) from error
            raise DiskUnavailable(
                f"The model can't be put before its worker: {error.strerror}."
            ) from error

    async def _lend(self, model: str, directory: str) -> str:
        loop = asyncio.get_running_loop()
        lending = loop.run_in_executor(None, self._scratch.lend, model, directory)
        try:
            return await asyncio.shield(lending)
        except asyncio.CancelledError:
            lending.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen
            lending.add_done_callback(lambda _done: self.take_back([model]))
            raise

    def take_back(self, models: Collection[str]) -> None:
        """Removes the files of models; nobody waits for it, for their memory is back."""
        if many := [model for model in models if not self._scratch.take_back_few(model)]:
            asyncio.get_running_loop().run_in_executor(None, self._scratch.take_back, many)

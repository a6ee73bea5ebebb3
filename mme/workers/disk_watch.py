"""Looks again and again at what a worker, or a build, has on disk, and says when it is too much.

Decision: to look, in a thread, as often as a worker gives signs of life, and never for more than a
tenth of the time. Between two looks more can be written; no single file of more than all that it
may have, for that the kernel keeps. Rejected: quotas, and a file system each, which need root, and
namespaces, which containers seldom allow.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from mme.workers.disk_growth import Growth
from mme.workers.disk_use import DiskUse, Use
from mme.workers.ends import Doing
from mme.workers.protocol import Absent, CallFailed, Loaded, Predict, Predicted
from mme.workers.sandbox_scratch import Scratch
from mme.workers.spec import WorkerSpec

_log = structlog.get_logger()
_LOOKING_RATIO: Final = 0.1  # of the time, at most
_WORKER_FILES: Final = 20_000
_FILE_BYTES: Final = 4096  # that a file weighs, though it be empty


async def until_too_much(
    use: DiskUse, group: int, every_seconds: float, on_look: Callable[[Use], None] = lambda _: None
) -> str:
    """Returns why it is too much, once it is.

    Args:
        use: what to look at.
        group: of the processes that write.
        every_seconds: how often, at most.
        on_look: told what was found each time.

    Cancellation: a look that has begun ends in its thread, unheard.
    """
    pause_seconds = every_seconds
    while True:
        await asyncio.sleep(pause_seconds)
        began = time.monotonic()
        try:
            found = await asyncio.to_thread(use.look, group)
        except OSError as error:
            _log.warning("disk_use_unknown", reason=error.strerror)
            continue
        finally:
            took_seconds = time.monotonic() - began
            pause_seconds = max(every_seconds, took_seconds / _LOOKING_RATIO)
        on_look(found)
        if found.excess:
            return found.excess


class WorkerDisk:
    """What one worker has on disk, and who of its models wrote it.

    Args:
        spec: of the worker.
        on_excess: ends the worker: told why, and whose doing it was.
    """

    def __init__(self, spec: WorkerSpec, on_excess: Callable[[str, Doing, str], None]) -> None:
        self._limit_bytes = spec.isolation.disk_limit_bytes
        self._every_seconds = spec.heartbeat_seconds
        self._on_excess = on_excess
        self._growth = Growth()
        self._looked_at = 0.0
        self.used_bytes = 0
        self._watch: asyncio.Task[None] | None = None
        self._excessive: DiskUse | None = None  # what it has, once that was too much

    def start(self, scratch: Scratch | None, group: int) -> None:
        """Begins to look at its own directory, if it has one, and at what its processes hold."""
        if scratch is None:
            return
        directory, files = scratch.temporary, _WORKER_FILES
        use = DiskUse(directory, limit_bytes=self._limit_bytes, limit_files=files)
        self._looked_at = time.monotonic()
        self._watch = asyncio.create_task(self._look(use, group), name=f"disk of worker {group}")

    def sent(self, batches: Iterable[Predict]) -> None:
        """It was given these."""
        for batch in batches:
            self._growth.began(batch.batch, batch.model)

    def answered(self, message: Predicted | Absent) -> None:
        """It has done one of them."""
        if isinstance(message, Predicted):
            self._growth.ended(message.batch, message.seconds, message.written_bytes)
        else:
            self._growth.ended(message.batch, 0.0)

    def loads(self, model: str) -> None:
        """It was given one to load."""
        self._growth.began(model, model)

    def loaded(self, model: str, answer: Loaded | CallFailed) -> None:
        """It has loaded it, or could not; what a framework took is not the model's."""
        seconds = answer.seconds if isinstance(answer, Loaded) else 0.0
        self._growth.ended(model, seconds)

    async def close(self) -> None:
        """Ends the looking, once all its processes have ended, and removes what they left.

        That is for who had too much; who had not may have made it for others.
        """
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        if self._excessive is not None:
            await asyncio.to_thread(self._excessive.remove_shared)

    async def _look(self, use: DiskUse, group: int) -> None:
        excess = await until_too_much(use, group, self._every_seconds, self._looked)
        self._excessive = use
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGSTOP)  # or it would hold more by the time that it ends
            self._looked(await asyncio.to_thread(use.look, group))
        model = self._growth.most()
        is_loading = self._growth.is_loading(model)
        doing = Doing.LOAD if is_loading else Doing.BATCH if model else Doing.NOBODY
        self._on_excess(excess, doing, model)

    def _looked(self, found: Use) -> None:
        self.used_bytes = found.bytes
        before, self._looked_at = self._looked_at, time.monotonic()
        weight_bytes = found.bytes + _FILE_BYTES * found.files
        self._growth.looked(weight_bytes, self._looked_at - before)

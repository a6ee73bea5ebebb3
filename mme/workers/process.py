"""One worker process's life: spawn, ready by a deadline, messages both ways, kill, reap.

The end is told once, through `on_end`, after everything the worker had written was read: so what it
answered counts, and what it had not answered is known exactly. A broken channel, rubbish on it, or
silence ends the process; the process's own exit closes the channels.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import structlog

from mme.errors import ConfigError, WorkerLost
from mme.orphans import end_group
from mme.workers.channel import Channel
from mme.workers.disk_watch import WorkerDisk
from mme.workers.ends import Cause, Doing, cause_of
from mme.workers.lending import Lending
from mme.workers.protocol import (
    Absent,
    Beat,
    CallFailed,
    Compile,
    FromWorker,
    Isolation,
    Load,
    Loaded,
    Predict,
    Predicted,
    Printed,
    Ready,
    Recall,
    ToWorker,
    Unload,
    Unloaded,
)
from mme.workers.residency import LoadRequest
from mme.workers.sandbox import Plan
from mme.workers.sandbox_plan import prepare
from mme.workers.sandbox_scratch import Scratch
from mme.workers.spawning import WorkerStartError, spawn_worker
from mme.workers.spec import WorkerSpec

__all__ = ["WorkerProcess", "WorkerStartError"]
_log = structlog.get_logger()
_LINGER_SECONDS = 1.0
_Reply: TypeAlias = Loaded | Unloaded | CallFailed


class _Call(NamedTuple):
    reply: asyncio.Future[_Reply]
    loading: str  # content; "": it is no load


class WorkerProcess:
    """A running worker.

    Args:
        on_predicted: called with each batch's answers, or that its model is not there.
        on_end: called once, after the process has ended and all it wrote was read.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        on_predicted: Callable[[Predicted | Absent], None],
        on_end: Callable[[Cause], None],
    ) -> None:
        self._spec = spec
        self._on_predicted = on_predicted
        self._on_end = on_end
        self._calls: dict[int, _Call] = {}  # it is at the first
        self._next_call = self._open_channels = 0
        self._channels_closed = asyncio.Event()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._process: asyncio.subprocess.Process | None = None
        self._reaper: asyncio.Task[None] | None = None
        self._killed: Cause | None = None
        self._scratch: Scratch | None = None
        self._lending: Lending | None = None  # None: it reads models where they are
        self.disk, self.isolation = WorkerDisk(spec, self.kill), Isolation(holds=[], lacks=[])
        self.has_ended = self.is_short = False  # short: its descriptors are used up
        self.private_bytes = self.excess_bytes = 0  # excess: beyond what models are charged
        self.lost_bytes = 0  # not given back with the last unload
        self.hot: dict[str, int] = {}  # models that are to be compiled, and the bytes that may take
        self.missing: list[str] = []  # were to be recalled, and are not there: it may forget them
        self.last_sign_at = 0.0  # monotonic

    @property
    def pid(self) -> int:
        """The process id; 0 before start."""
        return self._process.pid if self._process else 0

    @property
    def loading(self) -> str:
        """The content that it is loading; "": none."""
        return next((call.loading for call in self._calls.values()), "")

    async def start(self) -> None:
        """Spawns the process and waits until it is ready.

        Raises:
            WorkerStartError: it ended, or was not ready in time; it is gone then.
        Cancellation: the process is ended.
        """
        await self._spawn()
        limit_seconds = self._spec.start_seconds
        try:
            async with asyncio.timeout(limit_seconds):
                await self._ready
        except TimeoutError:
            await self.end(f"not ready within {limit_seconds:g} s")
            raise WorkerStartError(f"worker was not ready within {limit_seconds:g} s") from None
        except BaseException:
            await self.end("start was given up")
            raise

    def send(self, batches: list[Predict]) -> None:
        """Hands batches over. If the worker is going, the end will be told instead of answers."""
        self.disk.sent(batches)
        self._predictions.send(*batches)

    def recall(self, message: Recall) -> None:
        """Has a model brought back that was kept; its batches may be sent at once."""
        self.take_back(message.leaving)
        message.leaving += self.missing
        self.missing.clear()
        self._predictions.send(message)

    async def load(self, wanted: LoadRequest, directory: str) -> Loaded | CallFailed:
        """Loads one model from where it is lent. Raises WorkerLost when the process ends."""
        told = wanted.model, wanted.name, directory, wanted.content
        self.disk.loads(wanted.model)
        answer = await self._call(lambda call: Load(call, *told), wanted.content)
        assert isinstance(answer, Loaded | CallFailed)  # noqa: S101 - what answers a Load
        self.disk.loaded(wanted.model, answer)
        return answer

    async def compile(self, model: str, room_bytes: int) -> Loaded | CallFailed:
        """Compiles one model; see Compile. Raises WorkerLost when the process ends."""
        answer = await self._call(lambda call: Compile(call, model, room_bytes))
        assert isinstance(answer, Loaded | CallFailed)  # noqa: S101 - what answers a Compile
        return answer

    async def unload(self, models: list[str]) -> Unloaded | CallFailed:
        """Unloads models and gives their memory back. Raises WorkerLost when the process ends."""
        answer = await self._call(lambda call: Unload(call, models))
        self.take_back(models)
        assert isinstance(answer, Unloaded | CallFailed)  # noqa: S101 - what answers an Unload
        return answer

    def kill(self, reason: str, doing: Doing = Doing.NOBODY, model: str = "") -> None:
        """Ends the process at once; `on_end` follows."""
        if self._process is not None and self._process.returncode is None:
            self._killed = self._killed or Cause(reason, doing, model)
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def end(self, reason: str) -> None:
        """Kills the process and waits until it is reaped."""
        self.kill(reason)
        if self._reaper is not None:
            await asyncio.shield(self._reaper)

    async def lend(self, wanted: LoadRequest) -> str:
        """Where the worker may read a model's files until they are taken back. See Lending."""
        return wanted.directory if self._lending is None else await self._lending.lend(wanted)

    def take_back(self, models: list[str]) -> None:
        """Of models that were not loaded, or that left."""
        if self._lending is not None:
            self._lending.take_back(models)

    def lent_of(self, artifact: Path) -> list[Path]:
        """What the worker has of an artifact's files; in any thread. See `Scratch.lent_of`."""
        return self._scratch.lent_of(artifact) if self._scratch is not None else []

    async def _remove_scratch(self) -> None:
        if self._scratch is not None:
            await asyncio.to_thread(self._scratch.remove)

    async def _spawn(self) -> None:
        preparing = asyncio.create_task(asyncio.to_thread(self._prepare))
        try:
            await self._spawn_process(await asyncio.shield(preparing))
        except BaseException:
            await asyncio.wait([preparing])  # no thread leaves half-way
            preparing.exception()  # seen
            await self._remove_scratch()
            raise
        self.disk.start(self._scratch, self.pid)
        self.last_sign_at = time.monotonic()
        self._reaper = asyncio.create_task(self._reap(), name=f"reap worker {self.pid}")

    def _prepare(self) -> Plan | None:
        try:
            self._scratch, plan = prepare(self._spec.isolation, self._spec.packages)
        except (ConfigError, OSError) as error:
            raise WorkerStartError(f"worker could not be isolated: {error}") from error
        return plan

    async def _spawn_process(self, plan: Plan | None) -> None:
        loop = asyncio.get_running_loop()
        scratch = self._scratch
        home = None if scratch is None else scratch.temporary
        if scratch is not None and plan is not None and not plan.reads_all:
            self._lending = Lending(scratch, lambda: self.end("its directory was deleted"))
        ours_predict, theirs_predict = socket.socketpair()
        ours_control, theirs_control = socket.socketpair()
        try:
            _, self._predictions = await loop.create_connection(
                self._new_channel, sock=ours_predict
            )
            _, self._control = await loop.create_connection(self._new_channel, sock=ours_control)
            fds = (theirs_predict.fileno(), theirs_control.fileno())
            self._process, self._output = await spawn_worker(self._spec, fds, plan, home)
        finally:
            theirs_predict.close()
            theirs_control.close()

    def _new_channel(self) -> Channel:
        self._open_channels += 1
        return Channel(self._receive, self._channel_lost, self._spec.frame_limit_bytes)

    async def _call(self, message: Callable[[int], ToWorker], loading: str = "") -> _Reply:
        if self._channels_closed.is_set():
            raise WorkerLost("The worker has ended.", started=False)
        self._next_call += 1
        reply: asyncio.Future[_Reply] = asyncio.get_running_loop().create_future()
        self._calls[self._next_call] = _Call(reply, loading)
        self._control.send(message(self._next_call))
        return await reply

    def _receive(self, message: FromWorker) -> None:
        match message:
            case Predicted() | Absent():
                self.disk.answered(message)
                self._on_predicted(message)
            case Beat():
                self.last_sign_at = time.monotonic()
                self.private_bytes, self.excess_bytes = message.private_bytes, message.excess_bytes
                self.hot, self.is_short = message.hot, message.is_short
            case Loaded() | Unloaded() | CallFailed():
                if (call := self._calls.pop(message.call, None)) and not call.reply.done():
                    call.reply.set_result(message)
            case Printed():
                _log.info("model_printed", model=message.name, pid=self.pid, line=message.line)
            case Isolation() if not self.isolation.holds:
                self.isolation = message
            case Ready():
                self.last_sign_at = time.monotonic()  # it may have been long at importing
                with contextlib.suppress(asyncio.InvalidStateError):  # it may be over
                    self._ready.set_result(None)

    def _channel_lost(self) -> None:
        self._open_channels -= 1
        if self._open_channels == 0:
            self._channels_closed.set()
        # usually it is dying: its own cause is the better story, so only what lingers is killed
        why = "it closed its channel", Doing.MODEL
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, self.kill, *why)

    async def _reap(self) -> None:
        assert self._process is not None  # noqa: S101 - started by _spawn
        code = await self._process.wait()
        await end_group(self.pid)  # what it has started, which can't leave the group
        await self._drain()
        await self.disk.close()
        await self._remove_scratch()
        cause = cause_of(code, self._killed)
        if not self._ready.done():
            words = f"worker ended before it was ready: {cause.words}"
            early = WorkerStartError(words, self._output.last_line)
            self._ready.set_exception(early)
            self._ready.exception()  # seen, should nobody wait any more
        self.has_ended = True
        self._on_end(cause)
        for number, call in enumerate(self._calls.values()):
            if not call.reply.done():
                is_suspect = number == 0 and cause.doing in {Doing.MODEL, Doing.ANYONE, Doing.LOAD}
                lost = WorkerLost(f"The worker ended: {cause.words}.", started=is_suspect)
                call.reply.set_exception(lost)
        self._calls.clear()

    async def _drain(self) -> None:
        """Reads what the dead process left; a grandchild with its sockets does not keep us."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await self._channels_closed.wait()
        self._predictions.abort()
        self._control.abort()
        await self._channels_closed.wait()
        await self._output.finish()

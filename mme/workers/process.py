"""One worker process's life: spawn, ready by a deadline, messages both ways, kill, reap.

The end is told once, through `on_end`, after everything the worker had written was read: so what it
answered counts, and what it had not answered is known exactly. A broken channel, rubbish on it, or
silence ends the process; the process's own exit closes the channels.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import cast

import msgspec
import structlog

from mme.errors import WorkerLost
from mme.workers.protocol import (
    Beat,
    CallFailed,
    FrameBuffer,
    FromWorker,
    Load,
    Loaded,
    Predict,
    Predicted,
    Printed,
    ProtocolError,
    Ready,
    Unload,
    Unloaded,
    decode_from_worker,
    encode,
)
from mme.workers.spec import WorkerSpec, worker_environment

_log = structlog.get_logger()
_LINGER_SECONDS = 1.0


class WorkerStartError(Exception):
    """A worker did not become ready."""


class _Channel(asyncio.Protocol):
    """One socket's server side: bytes -> messages."""

    def __init__(self, receive: Callable[[FromWorker], None], lost: Callable[[], None]) -> None:
        self._receive = receive
        self._lost = lost
        self._frames = FrameBuffer()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class is none by name

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                self._receive(decode_from_worker(frame))
        except ProtocolError:
            self.abort()  # what follows rubbish is rubbish

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()

    def send(self, message: Predict | Load | Unload) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(encode(message))

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class WorkerProcess:
    """A running worker.

    Args:
        on_predicted: called with each batch's answers.
        on_end: called once, with the cause in words, after the process has ended and all it wrote
            was read.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        on_predicted: Callable[[Predicted], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._spec = spec
        self._on_predicted = on_predicted
        self._on_end = on_end
        self._calls: dict[int, asyncio.Future[Loaded | Unloaded | CallFailed]] = {}
        self._next_call = 0
        self._open_channels = 0
        self._channels_closed = asyncio.Event()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._process: asyncio.subprocess.Process | None = None
        self._reaper: asyncio.Task[None] | None = None
        self._kill_reason = ""
        self.has_ended = False
        self.private_bytes = 0
        self.lost_bytes = 0  # not given back with the last unload
        self.last_sign_at = 0.0  # monotonic

    @property
    def pid(self) -> int:
        """The process id; 0 before start."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Spawns the process and waits until it is ready.

        Raises:
            WorkerStartError: it ended, or was not ready in time; it is gone then.
        Cancellation: the process is ended.
        """
        await self._spawn()
        try:
            async with asyncio.timeout(self._spec.start_seconds):
                await self._ready
        except TimeoutError:
            await self.end(f"not ready within {self._spec.start_seconds:g} s")
            raise WorkerStartError(
                f"worker was not ready within {self._spec.start_seconds:g} s"
            ) from None
        except BaseException:
            await self.end("start was given up")
            raise

    def send(self, batch: Predict) -> None:
        """Hands a batch over. If the worker is going, the end will be told instead of an answer."""
        self._predictions.send(batch)

    async def load(self, model: str, name: str, directory: str) -> Loaded | CallFailed:
        """Loads one model. Raises WorkerLost when the process ends first."""
        call, reply = self._new_call()
        self._control.send(Load(call, model, name, directory))
        answer = await reply
        assert isinstance(answer, Loaded | CallFailed)  # noqa: S101 - what answers a Load
        return answer

    async def unload(self, models: list[str]) -> Unloaded | CallFailed:
        """Unloads models and gives their memory back. Raises WorkerLost when the process ends."""
        call, reply = self._new_call()
        self._control.send(Unload(call, models))
        answer = await reply
        assert isinstance(answer, Unloaded | CallFailed)  # noqa: S101 - what answers an Unload
        return answer

    def kill(self, reason: str) -> None:
        """Ends the process at once; `on_end` follows."""
        if self._process is not None and self._process.returncode is None:
            self._kill_reason = self._kill_reason or reason
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def end(self, reason: str) -> None:
        """Kills the process and waits until it is reaped."""
        self.kill(reason)
        if self._reaper is not None:
            await asyncio.shield(self._reaper)

    async def _spawn(self) -> None:
        loop = asyncio.get_running_loop()
        ours_predict, theirs_predict = socket.socketpair()
        ours_control, theirs_control = socket.socketpair()
        try:
            _, self._predictions = await loop.create_connection(
                self._new_channel, sock=ours_predict
            )
            _, self._control = await loop.create_connection(self._new_channel, sock=ours_control)
            fds = (theirs_predict.fileno(), theirs_control.fileno())
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "mme.workers.child", self._options(*fds),
                stdin=asyncio.subprocess.DEVNULL, pass_fds=fds, start_new_session=True,
                env=worker_environment(os.environ, self._spec.threads, self._spec.packages),
            )  # fmt: skip
        finally:
            theirs_predict.close()
            theirs_control.close()
        self.last_sign_at = time.monotonic()
        self._reaper = asyncio.create_task(self._reap(), name=f"reap worker {self.pid}")

    def _new_channel(self) -> _Channel:
        self._open_channels += 1
        return _Channel(self._receive, self._channel_lost)

    def _options(self, predict_fd: int, control_fd: int) -> str:
        options = {
            "predict_fd": predict_fd,
            "control_fd": control_fd,
            "trust_code": self._spec.trust_code,
            "heartbeat_seconds": self._spec.heartbeat_seconds,
            "preload": self._spec.preload,
        }
        return msgspec.json.encode(options).decode()

    def _new_call(self) -> tuple[int, asyncio.Future[Loaded | Unloaded | CallFailed]]:
        if self._channels_closed.is_set():
            raise WorkerLost("The worker has ended.", started=False)
        self._next_call += 1
        reply = self._calls[self._next_call] = asyncio.get_running_loop().create_future()
        return self._next_call, reply

    def _receive(self, message: FromWorker) -> None:
        match message:
            case Predicted():
                self._on_predicted(message)
            case Beat():
                self.last_sign_at = time.monotonic()
                self.private_bytes = message.private_bytes
            case Loaded() | Unloaded() | CallFailed():
                reply = self._calls.pop(message.call, None)
                if reply is not None and not reply.done():
                    reply.set_result(message)
            case Printed():
                _log.info("model_printed", model=message.name, pid=self.pid, line=message.line)
            case Ready():
                if not self._ready.done():
                    self._ready.set_result(None)

    def _channel_lost(self) -> None:
        self._open_channels -= 1
        if self._open_channels == 0:
            self._channels_closed.set()
        # usually it is dying: its own cause is the better story, so only what lingers is killed
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, self.kill, "it closed its channel")

    async def _reap(self) -> None:
        assert self._process is not None  # noqa: S101 - started by _spawn
        code = await self._process.wait()
        await self._drain_channels()
        cause = _describe(code, self._kill_reason)
        if not self._ready.done():
            self._ready.set_exception(
                WorkerStartError(f"worker ended before it was ready: {cause}")
            )
            self._ready.exception()  # seen, should nobody wait any more
        for reply in self._calls.values():
            if not reply.done():
                reply.set_exception(WorkerLost(f"The worker ended: {cause}."))
        self._calls.clear()
        self.has_ended = True
        self._on_end(cause)

    async def _drain_channels(self) -> None:
        """Reads what the dead process left; a grandchild with its sockets does not keep us."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await self._channels_closed.wait()
        self._predictions.abort()
        self._control.abort()
        await self._channels_closed.wait()


def _describe(code: int, reason: str) -> str:
    if code >= 0:
        return f"it exited with status {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
    return reason if reason and name == "SIGKILL" else f"it was killed by {name}"

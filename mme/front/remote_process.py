"""One front process's life: spawn, ready by a deadline, signs of life, reap; and again.

Decision: when it has died another takes its place, after a pause that doubles. What it held is lost
with its connections, and only that. That the server ends it learns from their socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable

import msgspec
import structlog

from mme.config import LogConfig, ServerConfig
from mme.errors import MmeError
from mme.front.remote import Desk
from mme.front.shared_address import SharedAddress
from mme.workers.backoff import Backoff
from mme.workers.spec import worker_environment

_START_SECONDS = 60.0
_END_SECONDS = 2.0  # beyond its grace
_LOOK_SECONDS = 10.0
_SILENT_LOOKS = 3  # in a row without a sign of life
_log = structlog.get_logger()


class FrontStartError(MmeError):
    """A front process did not become ready."""


class FrontProcess:
    """One of the server's fronts.

    Args:
        new_desk: makes what it hands its requests to, anew for each process.
        address: which it shares with the others.
        server: where it listens and what it lets in.
        log: how it logs.
    """

    def __init__(
        self,
        new_desk: Callable[[], Desk],
        address: SharedAddress,
        server: ServerConfig,
        log: LogConfig,
    ) -> None:
        self._new_desk = new_desk
        self._address = address
        self._told = {"server": server, "log": log}
        self._desk: Desk | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._restarts = 0
        self._is_draining = False

    async def start(self) -> None:
        """Starts it, and keeps it from then on. Raises FrontStartError. Cancellation: ends it."""
        await self._start()
        self._keeper = asyncio.create_task(self._keep(), name="front")

    def drain(self) -> None:
        """It takes no new connections, and ends with its last one."""
        self._is_draining = True
        if self._desk is not None:
            self._desk.drain()

    async def close(self, grace_seconds: float) -> None:
        """Ends it: the idle at once, those with something to say after that time at most."""
        self.drain()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._desk is not None:
            await self._desk.close(grace_seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds + _END_SECONDS):
                await self._wait()
        await self._end()

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.returncode is None

    @property
    def is_up(self) -> bool:
        """Whether it takes connections."""
        return self.is_running and self._desk is not None and self._desk.beats > 0

    def describe(self) -> dict[str, object]:
        """For `/state`."""
        running = self._process if self.is_running else None
        return {
            "pid": running and running.pid,
            "connections": self._desk.connections if self._desk is not None else 0,
            "restarts": self._restarts,
        }

    async def _keep(self) -> None:
        """Starts it again whenever it has ended, until it drains."""
        backoff = Backoff()
        while True:
            began = time.monotonic()
            code = await self._watch()
            await self._end()
            if self._is_draining:
                return
            backoff.ended(time.monotonic() - began)
            pause_seconds = backoff.next_seconds()
            _log.warning("front_ended", status=code, pause_seconds=pause_seconds)
            await asyncio.sleep(pause_seconds)
            self._restarts += 1
            try:
                await self._start()
            except FrontStartError as error:
                _log.error("front_not_started", reason=str(error))

    async def _watch(self) -> int | None:
        """Until it has ended; kills it when it gives no signs of life."""
        beats, silent_looks = -1, 0
        while self.is_running and self._desk is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wait()
            silent_looks = silent_looks + 1 if self._desk.beats == beats else 0
            beats = self._desk.beats
            if silent_looks >= _SILENT_LOOKS:
                break
        return self._process.returncode if self._process is not None else None

    async def _start(self) -> None:
        desk = self._desk = self._new_desk()
        try:
            await self._spawn(desk)
            async with asyncio.timeout(_START_SECONDS):
                await desk.is_settled.wait()
        except (OSError, TimeoutError) as error:
            await self._end()
            raise FrontStartError(f"a front process could not be started: {error}") from error
        except BaseException:
            await self._end()
            raise
        if not desk.beats:
            await self._end()
            raise FrontStartError("a front process ended before it was ready")
        if self._is_draining:
            desk.drain()

    async def _spawn(self, desk: Desk) -> None:
        ours, theirs = socket.socketpair()
        passed = [theirs]
        try:
            await asyncio.get_running_loop().create_connection(lambda: desk.channel, sock=ours)
            passed += self._address.sockets()
            channel_fd, *listen_fds = fds = [each.fileno() for each in passed]
            options = {"channel_fd": channel_fd, "listen_fds": listen_fds, **self._told}
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "mme.front.remote_main",
                msgspec.json.encode(options).decode(),
                stdin=asyncio.subprocess.DEVNULL, pass_fds=fds, start_new_session=True,
                env=worker_environment(os.environ, threads=1),
            )  # fmt: skip
        finally:
            for each in passed:
                each.close()

    async def _wait(self) -> None:
        if self._process is not None:
            await self._process.wait()

    async def _end(self) -> None:
        """Kills it if it is still there, and lets go of what it held."""
        if self._desk is not None:
            self._desk.channel.abort()
        if self._process is not None and self.is_running:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._wait()

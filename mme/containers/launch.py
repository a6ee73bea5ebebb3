"""A container that we start: its command is kept running, with ports and environment of its own.

Decisions: what ends is started again after a pause that doubles, and begins anew once it has run
for a minute; what has no good ping for the start-up time is ended and started again like any other.
It sees a short list of our environment, so none of our credentials, and what its table says; its
ports are ours to say.
"""

from __future__ import annotations

import asyncio
import math
import os
import shutil
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from mme.config_containers import ContainerConfig
from mme.containers.health import Health
from mme.containers.ports import PortBlocks
from mme.containers.process_group import ProcessGroup
from mme.containers.sibling_client import SiblingClient

_log = structlog.get_logger()
CONTAINER_STARTED: Final = "container_started"
CONTAINER_ENDED: Final = "container_ended"
_GRACE_SECONDS: Final = 30.0
_FIRST_PAUSE_SECONDS: Final = 0.5
_PAUSE_LIMIT_SECONDS: Final = 30.0
_STEADY_SECONDS: Final = 60.0
_PASSED_ON: Final = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "JAVA_HOME",
    "SSL_CERT_FILE", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip


def container_environment(
    base: Mapping[str, str], config: ContainerConfig, ports: range
) -> dict[str, str]:
    """Pure: what a container sees.

    Args:
        base: our own environment.
        config: its table.
        ports: its block; the first is the one to listen on.
    """
    kept = {name: base[name] for name in _PASSED_ON if name in base}
    kept["PYTHONUNBUFFERED"] = "1"  # what it prints is told when it is printed
    kept["PYTHONDONTWRITEBYTECODE"] = "1"  # its models' directories are the disk tier's
    kept.update(config.environment)
    kept["SAGEMAKER_BIND_TO_PORT"] = str(ports[0])
    kept["SAGEMAKER_SAFE_PORT_RANGE"] = f"{ports[1]}-{ports[-1]}"
    if config.is_multi_model:
        kept["SAGEMAKER_MULTI_MODEL"] = "true"
    return kept


def next_pause_seconds(last_seconds: float, ran_seconds: float) -> float:
    """Pure: how long to wait before the next start; `last_seconds` is 0 before the first end."""
    if not last_seconds or ran_seconds >= _STEADY_SECONDS:
        return _FIRST_PAUSE_SECONDS
    return min(2 * last_seconds, _PAUSE_LIMIT_SECONDS)


class Launched:
    """One container that is kept running; its health is begun, and its client moved, at each start.

    Args:
        config: its table, with a command.
        client: is told where it is.
        health: says when it has not come up; closed by whoever made it.
        ports: where its block of ports comes from.
        grace_seconds: between asking it to end and killing it.
    """

    def __init__(
        self,
        config: ContainerConfig,
        *,
        client: SiblingClient,
        health: Health,
        ports: PortBlocks,
        grace_seconds: float = _GRACE_SECONDS,
    ) -> None:
        self._config = config
        self._client = client
        self._health = health
        self._ports = ports
        self._grace_seconds = grace_seconds
        self._task: asyncio.Task[None] | None = None
        self._group: ProcessGroup | None = None
        self._ended: str | None = None  # how it ended last
        self._retry_at = 0.0
        self.restarts = 0
        self.on_lost: Callable[[], None] = lambda: None  # called when what was in it is gone

    def start(self) -> None:
        """Starts it, and keeps it running from now on."""
        name = f"keep {self._config.hostname} running"
        self._task = asyncio.create_task(self._keep_running(), name=name)

    async def close(self) -> None:
        """Ends it, and returns when nothing of it is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def problem(self) -> str | None:
        """Why it can't answer now; None when it can."""
        if self._group is not None:
            problem = self._health.problem()
            again = f" (it was started again: {self._ended})" if self._ended else ""
            return problem + again if problem else None
        seconds = math.ceil(max(0.0, self._retry_at - asyncio.get_running_loop().time()))
        return (
            f"container {self._config.hostname}: {self._ended or 'it is being started'};"
            f" it is started again in {seconds} s"
        )

    def describe(self) -> dict[str, object]:
        """Its state, for `/state`."""
        pid = self._group.pid if self._group is not None else None
        return {
            **self._health.describe(),
            "pid": pid,
            "restarts": self.restarts,
            "ended": self._ended,
        }

    async def _keep_running(self) -> None:
        loop, pause_seconds = asyncio.get_running_loop(), 0.0
        while True:
            began_at = loop.time()
            self._ended = await self._run()
            pause_seconds = next_pause_seconds(pause_seconds, loop.time() - began_at)
            self._retry_at = loop.time() + pause_seconds
            _log.error(
                CONTAINER_ENDED,
                container=self._config.hostname,
                reason=self._ended,
                retry_seconds=pause_seconds,
            )
            self.on_lost()
            await asyncio.sleep(pause_seconds)
            self.restarts += 1

    async def _run(self) -> str:
        """Runs it once, on a block of ports; how it ended, as the end of a sentence."""
        try:
            ports = self._ports.take()
            try:
                return await self._run_on(ports)
            finally:
                self._ports.give_back(ports)
        except OSError as error:
            return f"its command can't be started: {error.strerror or error}"

    async def _run_on(self, ports: range) -> str:
        command, name = self._config.command or (), self._config.hostname
        environment = container_environment(os.environ, self._config, ports)
        if shutil.which(command[0], path=environment.get("PATH")) is None:
            return f"its command {command[0]!r} was not found, or may not be run"
        self._client.move(f"http://127.0.0.1:{ports[0]}")
        self._group = group = await ProcessGroup.spawn(name, command, environment)
        self._health.begin()
        _log.info(CONTAINER_STARTED, container=name, pid=group.pid, port=ports[0])
        try:
            return await self._until_over(group)
        finally:
            await group.end(self._grace_seconds)
            self._group = None
            self._health.begin()

    async def _until_over(self, group: ProcessGroup) -> str:
        ended = asyncio.create_task(group.wait())
        expired = asyncio.create_task(self._health.expired.wait())
        try:
            await asyncio.wait({ended, expired}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return ended.result()
            return f"it had no good ping for {self._config.startup_seconds:g} s"
        finally:
            ended.cancel()
            expired.cancel()
            await asyncio.wait({ended, expired})

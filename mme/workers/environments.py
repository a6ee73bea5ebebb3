"""Python environments that models bring along: one per content of their requirements.

An environment is a directory of packages that stand before the server's own on a worker's path, so
that what a model pins wins and what it does not mention is there, as in SageMaker's images. It is
made in a temporary directory, which is renamed when it is whole. A build is one, however many
models wait for it; it outlives who asked first, and a failed one is remembered with its output.
Rejected: virtual environments, which can't be renamed and hide the server's packages.
"""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import structlog

from mme.config import EnvironmentConfig, IsolationConfig
from mme.errors import DiskUnavailable, LoadFailed
from mme.workers.installing import Installer, NotInstalled
from mme.workers.requirements import Requirements, find_requirements
from mme.workers.wording import without_paths

_log = structlog.get_logger()
_FAILED_SECONDS = 60.0
_PLAIN_LIMIT = 20_000
_CACHE = "uv-cache"
_OUTPUT_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class Environment:
    """Packages for workers: `directory` goes first on their path."""

    digest: str
    directory: Path


@dataclass(frozen=True, slots=True)
class FailedBuild:
    """Why an environment could not be built, until when it is not tried again."""

    requirements: tuple[str, ...]
    output: str
    retry_at: float


class Environments:
    """The environments on this machine's disk.

    Args:
        config: how much they may take, where packages come from.
        root: where they lie.
        isolation: how workers are held; so is what builds packages.
    """

    def __init__(self, config: EnvironmentConfig, root: Path, isolation: IsolationConfig) -> None:
        self._installer = Installer(config, isolation, root / _CACHE)
        self._config = config
        self._root = root
        self._built: dict[str, int] = {}  # digest -> bytes, the least recently asked for first
        self._building: dict[str, asyncio.Task[Environment]] = {}
        self._failed: dict[str, FailedBuild] = {}
        self._plain: dict[str, None] = {}  # artifacts that ask for none; what is in one stays

    async def start(self) -> None:
        """Takes over what an earlier run built, and removes what it did not finish."""
        self._built = await asyncio.to_thread(self._restore)

    async def close(self) -> None:
        """Ends builds under way; they leave nothing."""
        tasks = tuple(self._building.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def obtain(self, artifact: Path, in_use: Collection[str]) -> Environment | None:
        """The environment that an artifact asks for, built if need be; None: it asks for none.

        Args:
            artifact: its directory, which must stay until this returns.
            in_use: digests that workers run with now: never removed.

        Raises:
            LoadFailed: requirements are off, can't be read, or could not be installed.
        Cancellation: the build goes on.
        """
        path = str(artifact)  # which a Path keeps; its hash takes longer
        if path in self._plain:
            return None
        try:
            wanted = await asyncio.to_thread(find_requirements, artifact)
        except (ValueError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error  # it holds a path
            raise LoadFailed(f"The model's requirements can't be read: {reason}.") from error
        if wanted is None:
            self._plain[path] = None
            if len(self._plain) > _PLAIN_LIMIT:
                del self._plain[next(iter(self._plain))]
            return None
        if not self._config.enabled:
            raise LoadFailed(
                "The model brings requirements (code/requirements.txt), and this server does not "
                "install any (trust data, or requirements off)."
            )
        return await self._environment(wanted, in_use)

    def describe(self) -> dict[str, object]:
        """What is built, being built and failed, for `/state`."""
        return {
            "budget_bytes": self._config.disk_bytes,
            "used_bytes": sum(self._built.values()),
            "built": list(self._built),
            "building": list(self._building),
            "failures": [
                {
                    "environment": digest,
                    "requirements": failed.requirements,
                    "output": failed.output,
                }
                for digest, failed in self._failed.items()
            ],
        }

    async def _environment(self, wanted: Requirements, in_use: Collection[str]) -> Environment:
        digest = wanted.digest
        if digest in self._built:
            self._built[digest] = self._built.pop(digest)  # asked for most recently
            return Environment(digest, self._root / digest)
        failed = self._failed.get(digest)
        if failed is not None and time.monotonic() < failed.retry_at:
            raise _not_installed(failed)
        task = self._building.get(digest)
        if task is None:
            task = asyncio.create_task(self._build(wanted, in_use), name=f"environment {digest}")
            self._building[digest] = task
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _build(self, wanted: Requirements, in_use: Collection[str]) -> Environment:
        began = time.monotonic()
        incoming = self._root / f"incoming-{uuid.uuid4().hex}"
        try:
            await self._installer.install(wanted, incoming, self._room_bytes(in_use))
            size_bytes = await asyncio.to_thread(_publish, incoming, self._root / wanted.digest)
        except NotInstalled as error:
            await self._shed(in_use)  # what it left in the cache may be much
            self._fail(wanted, str(error))
        except OSError as error:
            raise DiskUnavailable(
                f"The environment can't be written to the disk: {error.strerror}."
            ) from error
        finally:
            del self._building[wanted.digest]
            await asyncio.to_thread(shutil.rmtree, incoming, ignore_errors=True)
        self._failed.pop(wanted.digest, None)
        self._built[wanted.digest] = size_bytes
        _log.info(
            "environment_built",
            environment=wanted.digest,
            requirements=wanted.lines,
            bytes=size_bytes,
            seconds=round(time.monotonic() - began, 3),
        )
        await self._shed({*in_use, wanted.digest})
        return Environment(wanted.digest, self._root / wanted.digest)

    def _room_bytes(self, in_use: Collection[str]) -> int:
        kept_bytes = sum(self._built.get(digest, 0) for digest in in_use)
        return max(1, self._config.disk_bytes - kept_bytes)

    def _fail(self, wanted: Requirements, output: str) -> NoReturn:
        said = without_paths(output[-_OUTPUT_CHARACTERS:])
        failed = FailedBuild(wanted.lines, said, time.monotonic() + _FAILED_SECONDS)
        self._failed[wanted.digest] = failed
        _log.error(
            "environment_not_built",
            environment=wanted.digest,
            requirements=wanted.lines,
            output=failed.output,
        )
        raise _not_installed(failed)

    async def _shed(self, kept: Collection[str]) -> None:
        """Removes what was asked for longest ago, then uv's cache, until within the budget."""
        cache = self._root / _CACHE
        cache_bytes = await asyncio.to_thread(_size_bytes, cache)
        for digest in [digest for digest in self._built if digest not in kept]:
            if sum(self._built.values()) + cache_bytes <= self._config.disk_bytes:
                return
            del self._built[digest]
            await asyncio.to_thread(shutil.rmtree, self._root / digest, ignore_errors=True)
            _log.info("environment_removed", environment=digest)
        if sum(self._built.values()) + cache_bytes > self._config.disk_bytes:
            await asyncio.to_thread(shutil.rmtree, cache, ignore_errors=True)

    def _restore(self) -> dict[str, int]:
        self._root.mkdir(parents=True, exist_ok=True)
        for debris in self._root.glob("incoming-*"):
            shutil.rmtree(debris, ignore_errors=True)
        entries = [entry for entry in self._root.iterdir() if len(entry.name) == 32]  # noqa: PLR2004
        entries.sort(key=lambda entry: entry.stat().st_mtime)
        return {entry.name: _size_bytes(entry) for entry in entries}


def _not_installed(failed: FailedBuild) -> LoadFailed:
    return LoadFailed(f"The model's requirements could not be installed: {failed.output}")


def _publish(incoming: Path, target: Path) -> int:
    incoming.mkdir(exist_ok=True)  # requirements that all markers switch off install nothing
    size_bytes = _size_bytes(incoming)
    incoming.rename(target)
    return size_bytes


def _size_bytes(directory: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in directory.rglob("*"))

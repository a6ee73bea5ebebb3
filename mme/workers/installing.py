"""Runs uv for a model's requirements: wheels alone where they will do, else in a sandbox.

Decisions: to install a wheel runs nothing of it, so that is done as the server, from a cache that
all share. To build a package runs its code: that is held as a worker is, but with the network, and
with what it writes to be run, for compilers and their like. It gets a copy of the archive, a cache
and a directory of its own, and what comes of it is copied out by the server. What either writes is
looked at as a worker's is; of the shared cache, by how much it grows. What uv builds in
spite of `--no-build`, editable projects and what their settings name, is not tried without.
Rejected: to tell by uv's words whether something has to be built; they change.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from uv import find_uv_bin

from mme.config import EnvironmentConfig, IsolationConfig
from mme.orphans import reap_group
from mme.workers.confined import Order, confined
from mme.workers.disk_use import DiskUse
from mme.workers.disk_watch import until_too_much
from mme.workers.plain_copy import NotPlain, copy_plainly
from mme.workers.requirements import Requirements
from mme.workers.sandbox import Plan
from mme.workers.sandbox_plan import prepare
from mme.workers.sandbox_scratch import Scratch

_OUTPUT_BYTES = 1 << 16
_LOOK_SECONDS = 1.0
_FILES = 500_000  # that one build may make
_NONE = -1  # no group of processes
_CERTIFICATES = "SSL_CERT_FILE"
_PASSED_ON = ("PATH", "LANG", _CERTIFICATES, "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_OF_THE_SERVER = ("HOME", "TMPDIR")


class NotInstalled(Exception):
    """Why requirements could not be installed: what uv said, mostly."""


class TooLarge(NotInstalled):
    """It wrote more than there is room for."""


class Installer:
    """Installs requirements into directories.

    Args:
        config: where packages come from, how long it may take.
        isolation: how workers are held.
        cache: uv's, for wheels.
    """

    def __init__(self, config: EnvironmentConfig, isolation: IsolationConfig, cache: Path) -> None:
        self._config = config
        self._isolation = isolation
        self._cache = cache

    async def install(self, wanted: Requirements, target: Path, room_bytes: int) -> None:
        """Installs into `target`, which is not there, or is not when nothing was asked for.

        Args:
            wanted: what.
            target: where.
            room_bytes: that all it writes may take.

        Raises:
            NotInstalled: uv could not, or not in time, or there is no room.
            OSError: the disk.
        Cancellation: ends what runs; `target` may be there in part.
        """
        limit_seconds = self._config.build_seconds
        try:
            async with asyncio.timeout(limit_seconds):
                if self._isolation.mode == "off":
                    await self._install_as_server(wanted, target, room_bytes)
                elif not wanted.is_plain or not await self._install_wheels(
                    wanted, target, room_bytes
                ):
                    await self._install_confined(wanted, target, room_bytes)
        except TimeoutError:
            raise NotInstalled(f"not installed within {limit_seconds:g} s") from None

    async def _install_wheels(self, wanted: Requirements, target: Path, room_bytes: int) -> bool:
        try:
            options = "--no-build", "--no-sources"
            await self._install_as_server(wanted, target, room_bytes, *options)
        except TooLarge:
            raise
        except NotInstalled:
            await _whole(shutil.rmtree, target, ignore_errors=True)
            return False
        return True

    async def _install_as_server(
        self, wanted: Requirements, target: Path, room_bytes: int, *options: str
    ) -> None:
        command = [*self._command(wanted.path, target, self._cache), *options]
        use = await asyncio.to_thread(self._room_beside_cache, target, room_bytes)
        await _run(command, _passed_on(*_PASSED_ON, *_OF_THE_SERVER), wanted.path, use)

    async def _install_confined(self, wanted: Requirements, target: Path, room_bytes: int) -> None:
        preparing = asyncio.create_task(asyncio.to_thread(self._prepare, room_bytes))
        try:
            scratch, plan = await asyncio.shield(preparing)
            use = DiskUse(scratch.temporary, limit_bytes=room_bytes, limit_files=_FILES)
            await self._install_within(scratch.temporary, plan, wanted, target, use)
        except NotPlain as error:
            raise NotInstalled(f"packages can't be built of it, or installed: {error}") from error
        finally:
            scratch, _ = await preparing
            await _whole(scratch.remove)

    async def _install_within(
        self, own: Path, plan: Plan, wanted: Requirements, target: Path, use: DiskUse
    ) -> None:
        archive, built = own / "archive", own / "target"
        path = archive / wanted.path.relative_to(wanted.directory)
        command = self._command(path, built, own / "cache")
        environment = _passed_on(*_PASSED_ON, "PYTHONPATH") | {"HOME": str(own), "TMPDIR": str(own)}
        await _whole(copy_plainly, wanted.directory.resolve(), archive, plan.user, wanted.needs)
        await _run(confined(Order(plan=plan, command=command)), environment, path, use)
        await _whole(_take, built, target)

    def _room_beside_cache(self, target: Path, room_bytes: int) -> DiskUse:
        self._cache.mkdir(parents=True, exist_ok=True)
        before = DiskUse(self._cache, limit_bytes=sys.maxsize, limit_files=sys.maxsize).look(_NONE)
        limit_bytes, limit_files = before.bytes + room_bytes, before.files + _FILES
        return DiskUse(self._cache, target, limit_bytes=limit_bytes, limit_files=limit_files)

    def _prepare(self, room_bytes: int) -> tuple[Scratch, Plan]:
        wheels, certificates = self._config.wheels, os.environ.get(_CERTIFICATES)
        named = (find_uv_bin(), wheels, certificates)
        reads = (Path(name).resolve() for name in named if name)
        scratch, plan = prepare(self._isolation, *reads)
        assert scratch is not None  # noqa: S101 - there is none where isolation is off
        assert plan is not None  # noqa: S101 - as above
        has_network = self._config.package_index != "none"
        return scratch, msgspec.structs.replace(
            plan, network=has_network, runs_own=True, file_bytes=room_bytes
        )

    def _command(self, requirements: Path, target: Path, cache: Path) -> list[str]:
        command = [
            find_uv_bin(), "pip", "install", "--quiet", "--no-config", "--no-progress",
            "--compile-bytecode",  # workers may not write it
            "--directory", str(requirements.parent), "--requirements", str(requirements),
            "--python", sys.executable, "--target", str(target), "--cache-dir", str(cache),
        ]  # fmt: skip
        if self._config.wheels is not None:
            command += ["--find-links", str(Path(self._config.wheels).resolve())]
        if self._config.package_index == "none":
            command += ["--no-index"]
        elif self._config.package_index is not None:
            command += ["--default-index", self._config.package_index]
        return command


def _take(built: Path, target: Path) -> None:
    if os.path.lexists(built):  # requirements that all markers switch off install nothing
        copy_plainly(built, target)


def _passed_on(*names: str) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}


async def _run(
    command: list[str], environment: dict[str, str], requirements: Path, use: DiskUse
) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    saying = asyncio.create_task(_said(process), name=f"build {process.pid}")
    watching = asyncio.create_task(
        until_too_much(use, process.pid, _LOOK_SECONDS), name=f"disk of build {process.pid}"
    )
    try:
        await asyncio.wait([saying, watching], return_when=asyncio.FIRST_COMPLETED)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it has started, too
        saying.cancel()
        watching.cancel()
        await asyncio.wait([saying, watching])
        await process.wait()
        await reap_group(process.pid)
    found = await asyncio.to_thread(use.look, process.pid)  # written since the last look
    if excess := found.excess or (not watching.cancelled() and watching.result()):
        raise TooLarge(f"the build was ended: {excess}")
    if process.returncode != 0:
        said = saying.result().decode(errors="replace").strip()
        raise NotInstalled(said.replace(str(requirements.parent), "code"))


async def _said(process: asyncio.subprocess.Process) -> bytes:
    """The end of its output, once it has ended."""
    assert process.stdout is not None  # noqa: S101 - as asked for
    output = b""
    while read := await process.stdout.read(_OUTPUT_BYTES):
        output = (output + read)[-_OUTPUT_BYTES:]
    await process.wait()
    return output


async def _whole(work: Callable[..., Any], *arguments: object, **options: bool) -> Any:  # noqa: ANN401 - as `work`
    """In a thread, to its end even when cancelled: nobody meets it half-way."""
    task = asyncio.create_task(asyncio.to_thread(work, *arguments, **options))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise

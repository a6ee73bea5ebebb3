"""Who ends a worker for what it has on disk, and what becomes of that."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mme.config import build_config
from mme.workers.disk_watch import WorkerDisk
from mme.workers.spec import WorkerSpec

SHARED = Path("/dev/shm", f"mme-test-{os.getpid()}-left")
HOLDER = """
import os, signal, sys
number = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.write(number, bytes(1 << 20))
print("holds", flush=True)
signal.pause()
"""


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a group of its own that holds 1 MiB in `/dev/shm`."""
    command = [sys.executable, "-c", HOLDER, str(SHARED)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"holds\n"
        yield process
        process.kill()
    SHARED.unlink(missing_ok=True)


def is_left() -> bool:
    """Whether what it held is there."""
    return SHARED.exists()


async def test_what_it_shared_goes_with_it_however_busy_the_threads_are(
    tmp_path: Path, holder: subprocess.Popen[bytes]
) -> None:
    spec = WorkerSpec.of(0, build_config({"models": str(tmp_path)}).workers, 1, None)
    isolation = replace(spec.isolation, disk_bytes=1 << 19)
    free, loop = threading.Event(), asyncio.get_running_loop()
    ended: asyncio.Future[str] = loop.create_future()
    with ThreadPoolExecutor(1) as only:
        loop.set_default_executor(only)

        def end(why: str, *_: object) -> None:
            only.submit(free.wait)  # the only thread is busy from now on
            holder.kill()
            ended.set_result(why)

        disk = WorkerDisk(replace(spec, isolation=isolation, heartbeat_seconds=0.01), end)
        disk.start(SimpleNamespace(temporary=tmp_path), holder.pid)
        assert "more than 524288 bytes on disk" in await ended
        await asyncio.sleep(0)
        closing = asyncio.create_task(disk.close())
        await asyncio.sleep(0.05)
        assert is_left()
        free.set()
        await closing
        assert not is_left()

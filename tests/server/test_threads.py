"""How the system treats the threads of a server and its worker; room for connections."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil
import pytest

from tests.engines import drop
from tests.models import booster
from tests.servers import runtime_client, serving

pytestmark = pytest.mark.timeout(90)


SCRIPT = b"""
import os, threading

def model_fn(model_dir):
    seen = []
    thread = threading.Thread(target=lambda: seen.append(os.sched_getscheduler(0)))
    thread.start()
    thread.join()
    return seen

def predict_fn(data, seen):
    return [*seen, os.sched_getscheduler(0)]
"""


def policies(pid: int) -> dict[int, int]:
    """How each thread of a process is scheduled."""
    threads = [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]
    return {thread: os.sched_getscheduler(thread) for thread in threads}


def described(pid: int, name: str) -> str:
    """A line of the kernel's words on a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def test_who_loads_and_unpacks_pushes_nobody_aside_and_who_answers_does(tmp_path: Path) -> None:
    drop(tmp_path / "models", "m1", {"code/inference.py": SCRIPT})
    with serving(tmp_path, tmp_path / "models") as served, runtime_client(served.url) as client:
        server = psutil.Process(served.process.pid)
        [worker] = server.children()
        for process in (server, worker):
            assert policies(process.pid)[process.pid] == os.SCHED_OTHER  # its main thread
        assert [*policies(worker.pid).values()].count(os.SCHED_BATCH) == 1
        assert [*policies(server.pid).values()].count(os.SCHED_BATCH) > 10
        reply = client.invoke_endpoint(EndpointName="mme", TargetModel="m1", Body=b"[]")
        assert json.load(reply["Body"]) == [os.SCHED_OTHER, os.SCHED_OTHER]
        assert [*policies(worker.pid).values()].count(os.SCHED_BATCH) == 1


def test_room_for_many_connections_is_made_before_there_are_threads(tmp_path: Path) -> None:
    drop(tmp_path / "models", "m1", booster(1).members)
    with serving(tmp_path, tmp_path / "models", "--fronts=2") as served:
        server = psutil.Process(served.process.pid)
        fronts = [each for each in server.children() if "mme.front.remote_main" in each.cmdline()]
        assert len(fronts) == 2
        assert [described(each.pid, "FDSize") for each in (server, *fronts)] == ["4096"] * 3

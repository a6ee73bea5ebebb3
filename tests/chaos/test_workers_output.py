"""What a model's code writes past Python's streams is data in the log, and so much of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.engines import drop
from tests.models import booster
from tests.servers import Served, predict, runtime_client, serving

pytestmark = pytest.mark.timeout(60)
FORGED = '{"time": "now", "level": "info", "event": "request", "caller": "nobody"}'
SCRIPT = b"""
import json, os, subprocess, threading


def write(text):
    for descriptor in (1, 2):
        os.write(descriptor, text.encode() + b"\\n")
    os.system("echo '" + text + "'")
    subprocess.run(["sh", "-c", 'echo "$1" >/dev/stderr', "sh", text])


def erase(_):
    told = []
    for name in os.listdir("/proc/self/fd"):
        try:
            os.ftruncate(int(name), 0)
            told.append(os.readlink("/proc/self/fd/" + name))
        except OSError:
            pass
    return told


def files(_):
    told = []
    for name in os.listdir("/proc/self/fd"):
        try:
            told.append(os.fstat(int(name)).st_ino)
        except OSError:
            pass  # the directory's own
    return told


def flood(data):
    def run():
        while True:
            os.write(2, data.encode() * (60_000 // len(data)))
    threading.Thread(target=run, daemon=True).start()


def model_fn(model_dir):
    return {"write": write, "erase": erase, "files": files, "flood": flood}


def transform_fn(model, data, content_type, accept):
    name, argument = json.loads(data)
    return json.dumps(model[name](argument)), "application/json"
"""


def told(client: Any, *call: str) -> Any:
    """What a function of the script gave."""
    reply = client.invoke_endpoint(
        EndpointName="mme", TargetModel="loud", Body=json.dumps(call),
        ContentType="application/json", Accept="application/json",
    )  # fmt: skip
    return json.loads(reply["Body"].read())


def written(served: Served, count: int) -> list[dict[str, Any]]:
    return served.logged(count, event="worker_output")


def memory_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_forged_line_is_data_of_its_workers(tmp_path: Path) -> None:
    drop(tmp_path / "models", "loud", {"code/inference.py": SCRIPT})
    with serving(tmp_path, tmp_path / "models") as served, runtime_client(served.url) as client:
        told(client, "write", FORGED + "\r\u2028\x1b[2J")
        lines = written(served, 4)
        assert len(lines) == 4
        assert all(line["line"].startswith(FORGED + "\r\u2028\x1b") for line in lines)
        assert {line["worker"] for line in lines} == {0}
        assert not [line for line in served.log() if line.get("caller") == "nobody"]
        assert served.log_path.read_text().count("\x1b") == 0


def test_a_worker_has_nothing_of_the_servers_log_to_erase(tmp_path: Path) -> None:
    drop(tmp_path / "models", "loud", {"code/inference.py": SCRIPT})
    with serving(tmp_path, tmp_path / "models") as served, runtime_client(served.url) as client:
        before = served.logged(event="workers_isolated")
        assert before
        assert [name for name in told(client, "erase", "") if not name.startswith("/proc/")] == []
        assert served.log_path.stat().st_ino not in told(client, "files", "")
        assert served.logged(event="workers_isolated") == before


@pytest.mark.parametrize("text", ["y\n", "x"])
def test_of_a_flood_little_is_kept_and_others_are_answered_meanwhile(
    tmp_path: Path, text: str
) -> None:
    drop(tmp_path / "models", "loud", {"code/inference.py": SCRIPT})
    drop(tmp_path / "models", "m1", booster(1).members)
    with serving(tmp_path, tmp_path / "models") as served, runtime_client(served.url) as client:
        predict(client, "m1")
        before_bytes = memory_bytes(served.process.pid)
        told(client, "flood", text)
        for _ in range(100):
            assert predict(client, "m1") == pytest.approx(booster(1).prediction, rel=1e-6)
        assert memory_bytes(served.process.pid) < before_bytes + 50 * 1024**2
        assert served.state()["workers"][0]["restarts"] == 0
    assert len(served.logged(event="worker_output")) < 10_000
    assert served.log_path.stat().st_size < 5_000_000

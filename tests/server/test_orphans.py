"""A server gets the orphans of what it started and waits for them, wherever it runs.

Here nobody else would: they would be this process's own, which waits for none of them, as init may
be slow to do, and as nobody does where the server is an image's first process.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.engines import drop
from tests.eventually import wait_for
from tests.servers import Served, runtime_client, serving

pytestmark = pytest.mark.timeout(90)

SET_CHILD_SUBREAPER = 36
LEAVING = """
import os, subprocess, sys

def leave(seconds, **options):
    if not (child := os.fork()):
        print("left", subprocess.Popen(["sleep", seconds], **options).pid, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
SCRIPT = (
    LEAVING
    + """
def model_fn(model_dir):
    for _ in range(3):
        leave("0.1")
    return "m"

def predict_fn(data, model):
    return os.getpid()
"""
)


@pytest.fixture
def heir() -> Iterator[None]:
    """This process gets the orphans that no process below it takes."""
    libc = ctypes.CDLL(None)
    libc.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    libc.prctl(SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def left(served: Served, count: int) -> list[int]:
    """Those that a script or a container says that it left."""
    wait_for(lambda: len(said(served)) == count)
    return said(served)


def said(served: Served) -> list[int]:
    words = [str(line.get("line")).split() for line in served.log()]
    return [int(each[1]) for each in words if each[0] == "left"]


def container(served: Served) -> dict[str, Any]:
    return served.state()["containers"][0]


@pytest.mark.usefixtures("heir")
def test_what_a_model_leaves_is_waited_for_while_its_worker_lives_and_when_it_ends(
    tmp_path: Path,
) -> None:
    drop(tmp_path / "models", "m", {"code/inference.py": SCRIPT.encode()})
    with serving(tmp_path, tmp_path / "models") as served, runtime_client(served.url) as client:

        def asked() -> int:
            reply = client.invoke_endpoint(EndpointName="mme", TargetModel="m", Body=b"[]")
            return int(json.load(reply["Body"]))

        worker = asked()
        wait_for(lambda: not any(map(psutil.pid_exists, left(served, 3))))
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: not psutil.pid_exists(worker))
        wait_for(lambda: served.state()["workers"][0]["pid"] != worker)
        assert asked() != worker


@pytest.mark.usefixtures("heir")
def test_of_a_container_that_is_killed_nothing_is_left_once_it_is_started_again(
    tmp_path: Path,
) -> None:
    start = f"{LEAVING}\nleave('300')\nleave('1.5', start_new_session=True)\n"
    start += "leave('300', start_new_session=True)\n"
    become = [sys.executable, "-m", "tests.small_container", "prepare"]
    start += f"os.execv({become[0]!r}, {become})"
    config = tmp_path / "mme.toml"
    config.write_text(f"""
        mode = "Direct"
        failure_seconds = 0.1
        [[containers]]
        hostname = "leaves"
        command = {json.dumps([sys.executable, "-c", start])}
    """)
    with serving(tmp_path, None, "--config", str(config)) as served:
        wait_for(lambda: container(served)["problem"] is None)
        pid, [stays, ends, _] = container(served)["pid"], left(served, 3)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: container(served)["restarts"] == 1)
        assert not psutil.pid_exists(pid)
        assert not psutil.pid_exists(stays)  # it was of its group
        wait_for(lambda: not psutil.pid_exists(ends))
        [ended] = [line for line in served.log() if line["event"] == "container_ended"]
        assert "SIGKILL" in str(ended)
        every = left(served, 6)
    assert not any(map(psutil.pid_exists, every))

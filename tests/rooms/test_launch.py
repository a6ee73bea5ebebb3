"""Containers that we start: real processes, their ports, their ends and what is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from mme.config_containers import ContainerConfig
from mme.containers.health import Health
from mme.containers.launch import Launched
from mme.containers.ports import PortBlocks
from mme.containers.sibling import Sibling
from mme.containers.sibling_client import SiblingClient
from mme.errors import SiblingSilent
from tests.eventually import eventually
from tests.siblings import asked

SERVER = """
import http.server, json, os, signal, sys

class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_):
        pass
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(b"")
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(json.dumps(dict(os.environ)).encode())

def bye(*_):
    print("bye", flush=True)
    os._exit(0)

signal.signal(signal.SIGTERM, bye)
print("hello", os.getpid())
port = int(os.environ["SAGEMAKER_BIND_TO_PORT"])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Answers).serve_forever()
"""
PYTHON = (sys.executable, "-S", "-E", "-c")


class Started:
    """One container with all that belongs to it."""

    def __init__(self, command, grace_seconds=5.0, **changes):
        config = ContainerConfig(hostname="pre", command=command, **changes)
        self.client = SiblingClient(
            "pre", "http://127.0.0.1:1", connections=2, waiting=2, reply_limit_bytes=1024
        )
        self.health = Health(
            "pre",
            self.client.ping,
            startup_seconds=config.startup_seconds,
            metrics=None,
            on_recovery=self.client.probe_soon,
        )
        self.launched = Launched(
            config,
            client=self.client,
            health=self.health,
            ports=PortBlocks(),
            grace_seconds=grace_seconds,
        )
        self.sibling = Sibling(self.client, self.launched, None)
        self.lost = []
        self.launched.on_lost = lambda: self.lost.append(True)

    @property
    def pid(self):
        return self.launched.describe()["pid"]

    async def answered(self):
        await eventually(lambda: self.sibling.problem() is None)
        return json.loads((await self.sibling.invoke(asked())).body)


@asynccontextmanager
async def started(*command, **changes):
    it = Started(command, **changes)
    it.health.start()
    it.launched.start()
    try:
        yield it
    finally:
        await it.launched.close()
        await it.health.close()
        await it.client.close()


def members(group):
    """What runs in a process group."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            pass
    return found


async def test_a_container_gets_its_ports_and_its_table_and_nothing_of_ours(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ours")
    monkeypatch.setenv("MME_MODELS", "ours")
    table = {"GREETING": "hi", "SAGEMAKER_BIND_TO_PORT": "8080"}
    async with started(*PYTHON, SERVER, environment=table, target_models="s3://b/") as it:
        seen = await it.answered()
    port = int(seen["SAGEMAKER_BIND_TO_PORT"])
    first, last = map(int, seen["SAGEMAKER_SAFE_PORT_RANGE"].split("-"))
    assert first == port + 1
    assert last - first > 200
    assert last < 32768
    assert seen["GREETING"] == "hi"
    assert seen["SAGEMAKER_MULTI_MODEL"] == "true"
    assert "PATH" in seen
    assert not [name for name in seen if name.startswith(("AWS_", "MME_"))]


async def test_what_it_prints_is_in_our_log_under_its_name():
    with capture_logs() as logs:
        async with started(*PYTHON, SERVER) as it:
            await it.answered()
            pid = it.pid
    lines = [log["line"] for log in logs if log["event"] == "container_output"]
    assert lines == [f"hello {pid}", "bye"]  # SIGTERM, not SIGKILL, ended it
    assert {log["container"] for log in logs} == {"pre"}
    await eventually(lambda: not members(pid))


async def test_a_container_that_is_killed_is_started_again_elsewhere():
    async with started(*PYTHON, SERVER) as it:
        first, pid = await it.answered(), it.pid
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: it.lost)
        assert it.sibling.problem() == (
            "container pre: it was killed by SIGKILL; it is started again in 1 s"
        )
        await eventually(lambda: not members(pid))
        second = await it.answered()
        assert it.launched.restarts == 1
        assert second["SAGEMAKER_BIND_TO_PORT"] != first["SAGEMAKER_BIND_TO_PORT"]
        assert it.sibling.describe()["ended"] == "it was killed by SIGKILL"


async def test_a_request_in_it_when_it_is_killed_fails_and_is_named():
    slow = SERVER.replace("self.rfile.read(", "print('working', flush=True); self.rfile.read(9 + ")
    async with started(*PYTHON, slow) as it:
        await eventually(lambda: it.sibling.problem() is None)
        request = asyncio.create_task(it.sibling.invoke(asked()))
        await eventually(lambda: it.sibling.describe()["in_flight"])
        os.kill(it.pid, signal.SIGKILL)
        with pytest.raises(SiblingSilent, match=r"^Container pre does not answer: ") as caught:
            await request
    assert caught.value.original_status == 0


async def test_a_container_that_does_not_come_up_is_ended_and_started_again():
    async with started("/bin/sleep", "60", startup_seconds=0.3) as it:
        await eventually(lambda: it.pid)
        first = it.pid
        await eventually(lambda: it.launched.restarts)
        await eventually(lambda: it.pid)
        await eventually(lambda: not members(first))
        assert "(it was started again: it had no good ping for 0.3 s)" in it.sibling.problem()
        await eventually(lambda: "refused" in (it.sibling.problem() or ""))


async def test_a_command_that_ends_at_once_or_is_not_there_is_told():
    async with started("/bin/sh", "-c", "exit 3") as it:
        await eventually(lambda: it.lost)
        assert "it exited with status 3" in it.sibling.problem()
    async with started("no-such-command") as it:
        await eventually(lambda: it.lost)
        problem = "container pre: its command 'no-such-command' was not found, or may not be run"
        assert it.sibling.problem().startswith(problem)


STUBBORN = """
trap '' TERM
sleep 60 &
(sleep 60 & wait) &
echo up
while true; do sleep 60; done
"""


async def test_what_does_not_end_is_killed_with_all_its_children():
    with capture_logs() as logs:
        async with started("/bin/sh", "-c", STUBBORN, grace_seconds=0.1) as it:
            await eventually(lambda: any(log.get("line") == "up" for log in logs))
            pid = it.pid
            assert len(members(pid)) >= 4
    await eventually(lambda: not members(pid))


async def test_children_do_not_outlive_a_container_that_ends_by_itself():
    async with started("/bin/sh", "-c", "sleep 60 & exit 0") as it:
        await eventually(lambda: it.pid)
        pid = it.pid
        await eventually(lambda: it.lost)
        await eventually(lambda: not members(pid))


PARENT = """
import asyncio, sys
from mme.containers.process_group import ProcessGroup

async def main():
    command = ("/bin/sh", "-c", "trap '' TERM HUP; sleep 60 & sleep 60 & wait")
    group = await ProcessGroup.spawn("pre", command, {{"PATH": "/usr/bin:/bin"}})
    print(group.pid, flush=True)
    await group.wait()

import {loop}
{loop}.run(main())
"""


def ignores_sigterm(process: psutil.Process) -> bool:
    """Whether it has come to its trap: some of the group take a moment."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{process.pid}/status").read_text()
        [ignored] = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn")]
        return bool(int(ignored, 16) & 1 << signal.SIGTERM - 1)
    return False


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_the_group_dies_with_a_server_that_is_killed(loop):
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT.format(loop=loop), stdout=asyncio.subprocess.PIPE
    )
    group = int(await parent.stdout.readline())
    await eventually(lambda: len(members(group)) >= 4 and all(map(ignores_sigterm, members(group))))
    os.killpg(group, signal.SIGTERM)  # as when it was killed while it waited for the end
    parent.kill()
    await parent.wait()
    await eventually(lambda: not members(group))


async def test_a_container_that_prints_without_end_does_not_hold_us_up():
    with capture_logs() as logs:
        async with started("/bin/sh", "-c", "yes $(printf %05000d 0)") as it:
            await eventually(lambda: len(logs) > 1000)
            loop, longest = asyncio.get_running_loop(), 0.0
            for _ in range(100):
                before = loop.time()
                await asyncio.sleep(0.001)
                longest = max(longest, loop.time() - before)
            assert longest < 1
            await eventually(lambda: any(log["event"] == "container_output_lost" for log in logs))
            assert it.pid
    lines = [log["line"] for log in logs if log["event"] == "container_output"]
    assert max(map(len, lines)) == 2003
    assert len(lines) < 3000

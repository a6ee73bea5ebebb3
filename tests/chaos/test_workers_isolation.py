"""What a model's code can't do, tried by a model's code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from mme import Engine
from mme.errors import ConfigError
from mme.workers.process import WorkerStartError
from mme.workers.sandbox_landlock import kernel_version
from tests.engines import drop, invocation, running_engine

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _kernel_has_landlock() -> None:
    try:
        kernel_version()
    except OSError as error:
        pytest.skip(f"this kernel has no Landlock: {error}")


SCRIPT = b"""
import json, os, socket, tempfile
from pathlib import Path


def model_fn(model_dir):
    return Path(model_dir)


def attempt(name, *arguments):
    return {
        "own": lambda: (own / "secret").read_text(),
        "read": lambda path: Path(path).read_text(errors="replace"),
        "list": lambda path: len(os.listdir(path)),
        "write": lambda path: Path(path).write_text("x"),
        "temporary": lambda: Path(tempfile.mkdtemp(), "x").write_text("x"),
        "home": lambda: Path.home().joinpath("x").write_text("x"),
        "connect": lambda port: socket.create_connection(("127.0.0.1", port), 1).close(),
        "signal": lambda pid: os.kill(pid, 0),
        "pair": lambda: len(socket.socketpair()),
        "leave": lambda: os.setsid(),
        "group": lambda: os.getpgid(0) == os.getpgrp() and os.getpgid(0),
    }[name](*arguments)


def transform_fn(model, data, content_type, accept):
    global own
    own = model
    told = []
    for call in json.loads(data):
        try:
            told.append(attempt(*call))
        except OSError as error:
            told.append(type(error).__name__)
    return json.dumps(told), "application/json"
"""


def curious(secret: str) -> dict[str, bytes]:
    return {"code/inference.py": SCRIPT, "secret": secret.encode()}


async def attempts(engine: Engine, *calls: list[Any]) -> list[Any]:
    """What each attempt of the model `curious` gave: its result, or the error's name."""
    body = json.dumps(calls).encode()
    reply = await engine.invoke(invocation("curious", body, content_type="application/json"))
    return json.loads(reply.body)


async def test_a_models_code_reaches_its_own_files_and_nobody_elses(tmp_path: Path) -> None:
    drop(tmp_path / "models", "curious", curious("mine"))
    drop(tmp_path / "models", "other", curious("another's"))
    (tmp_path / "keys.toml").write_text("s3cr3t")
    async with running_engine(tmp_path, workers=2) as engine:
        await engine.invoke(invocation("other", b"[]", content_type="application/json"))
        mine = [["own"], ["temporary"], ["home"], ["pair"], ["read", "/proc/self/status"]]
        own, temporary, home, pair, status = await attempts(engine, *mine)
        assert (own, temporary, home, pair) == ("mine", 1, 1, 2)
        assert "NoNewPrivs:\t1" in status
        assert "CapEff:\t0000000000000000" in status
        [theirs] = [path for path in (tmp_path / "cache/models").glob("*/secret")
                    if path.read_text() == "another's"]  # fmt: skip
        lent = [path for path in (tmp_path / "cache/workers").glob("*/models/*/secret")
                if path.read_text() == "another's"]  # fmt: skip
        assert lent
        closed = [
            ["read", str(theirs)],
            *(["read", str(path)] for path in lent),
            ["list", str(tmp_path / "cache/models")],
            ["list", str(tmp_path / "cache/workers")],
            ["read", str(tmp_path / "keys.toml")],
            ["read", f"/proc/{os.getpid()}/environ"],
            ["read", f"/proc/{os.getpid()}/mem"],
            ["read", "/etc/shadow"],
            ["list", str(Path.home())],
            ["write", str(tmp_path / "written")],
            ["write", str(theirs)],
            ["write", "/dev/shm/../mme-written"],
            ["list", "/dev/shm"],
            ["connect", 1],
        ]
        told = await attempts(engine, *closed)
        assert told == ["PermissionError"] * len(closed)
        holds = engine.state()["workers"][0]["isolation"]["holds"]
        assert "system calls and network (seccomp)" in holds
        assert "reading and writing of files (Landlock)" in holds


async def test_a_worker_that_may_use_the_network_still_reads_nobody_elses_files(
    tmp_path: Path,
) -> None:
    drop(tmp_path / "models", "curious", curious("mine"))
    (tmp_path / "keys.toml").write_text("s3cr3t")
    async with running_engine(tmp_path, worker_network="on") as engine:
        told = await attempts(engine, ["connect", 1], ["read", str(tmp_path / "keys.toml")])
        assert told == ["ConnectionRefusedError", "PermissionError"]


async def test_a_models_process_can_not_leave_its_workers_group(tmp_path: Path) -> None:
    drop(tmp_path / "models", "curious", curious("mine"))
    async with running_engine(tmp_path) as engine:
        before, _, after = await attempts(engine, ["group"], ["leave"], ["group"])
        assert before == after == engine.state()["workers"][0]["pid"]


async def test_off_is_off_and_state_says_so(tmp_path: Path) -> None:
    drop(tmp_path / "models", "curious", curious("mine"))
    (tmp_path / "keys.toml").write_text("open")
    async with running_engine(tmp_path, isolation="off") as engine:
        assert await attempts(engine, ["read", str(tmp_path / "keys.toml")]) == ["open"]
        assert engine.state()["workers"][0]["isolation"] == {"holds": [], "lacks": []}
        assert not (tmp_path / "cache/workers").exists()


@pytest.mark.parametrize("settings", [{"worker_user": "no-such-user"}])
async def test_a_user_that_can_not_be_had_is_told_at_the_start(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    with pytest.raises((ConfigError, WorkerStartError), match="worker_user"):
        async with running_engine(tmp_path, **settings):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give workers another user")
def test_a_worker_of_another_user_writes_its_own_directory_and_reads_no_file_of_the_servers() -> (
    None
):
    script = (
        "import os, sys; from pathlib import Path\n"
        "from mme.workers.sandbox import Plan, enter\n"
        "from mme.workers.sandbox_scratch import Scratch\n"
        "root, user = Path(sys.argv[1]), (65534, 65534)\n"
        "(root / 'key').touch(mode=0o600)\n"
        "scratch = Scratch(root / 'workers', user)\n"
        "plan = Plan(directory=str(scratch.directory), strict=True, network=False, user=user,\n"
        "            reads_all=True, no_user=None, memory_bytes=None)\n"
        "isolation = enter(plan)\n"
        "open('written', 'w').write('x')\n"
        "try:\n"
        "    open(root / 'key')\n"
        "except PermissionError:\n"
        "    print(os.getresuid(), os.getgroups(), isolation.lacks)\n"
    )
    root = tempfile.mkdtemp(dir="/var/tmp")  # nobody can not pass the tests' own
    Path(root).chmod(0o711)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, root],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("(65534, 65534, 65534) [] []\n", "")
        [written] = Path(root).glob("workers/*/tmp/written")
        assert written.stat().st_uid == 65534
    finally:
        shutil.rmtree(root)

"""What a package's build script can't do, tried by one that a model's requirements name."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mme.errors import LoadFailed, ModelNotReady
from tests.chaos.landlock import needs_landlock
from tests.chaos.old_kernel import LANDLOCK, within
from tests.engines import ask, drop, invocation, running_engine
from tests.eventually import eventually
from tests.models import booster
from tests.sources import source_package, write_members
from tests.wheels import write_wheel

pytestmark = [pytest.mark.timeout(60), needs_landlock]


TRIES = """
import os, socket, subprocess
from pathlib import Path

def tried(attempt):
    try:
        return attempt()
    except OSError as error:
        return type(error).__name__

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(name))

def program():
    own = Path(os.environ["TMPDIR"], "own.sh")
    own.write_text("#!/bin/sh\\necho ran")
    own.chmod(0o711)
    return subprocess.run([own], capture_output=True, text=True).stdout.strip()

def compiled():
    Path("own.c").write_text('int main() { return 7; }')
    subprocess.run(["gcc", "own.c", "-o", "own"], check=True)
    return subprocess.run(["./own"]).returncode

def linger():
    return subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True).pid

def build():
    tries = {
        "read": tried(lambda: Path(ROOT, "keys.toml").read_text()),
        "environment": tried(lambda: Path("/proc", str(SERVER), "environ").read_text()),
        "models": tried(lambda: os.listdir(Path(ROOT, "cache/models"))),
        "cache": tried(lambda: Path(ROOT, "cache/environments/uv-cache/x").write_text("x")),
        "others": tried(lambda: Path(ROOT, "cache/environments", OTHER, "x").write_text("x")),
        "python": tried(lambda: Path(os.__file__).with_name("mme_written.py").write_text("x")),
        "signal": tried(lambda: os.kill(SERVER, 0)),
        "mode": tried(lambda: os.chmod(Path(ROOT, "keys.toml"), 0o666)),
        "connect": tried(lambda: socket.create_connection(("127.0.0.1", PORT), 1).close()),
        "capabilities": status("CapEff"),
        "secrets": [name for name in os.environ if name.startswith(("AWS", "PYTHONPATH="))],
        "program": tried(program),
        "compiled": COMPILES and tried(compiled),
        "lingers": linger(),
    }
    return {"built.py": f"TRIED = {tries!r}"}
"""
REFUSED = ("read", "environment", "models", "cache", "others", "python", "signal", "connect")
SCRIPT = b"""
import json

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    import built
    return json.dumps(built.TRIED), "application/json"
"""
OFFLINE = {"package_index": "none"}


def with_source(build: str, requirements: str = "./own\n") -> dict[str, bytes]:
    asked = {"code/requirements.txt": requirements.encode()}
    return {**source_package("own", build), **asked}


async def tell(engine: Any, model: str) -> dict[str, Any]:
    reply = await engine.invoke(invocation(model, b"[]", content_type="application/json"))
    told: dict[str, Any] = json.loads(reply.body)
    return told


async def built_beside_another(root: Path, port: int = 1, **settings: Any) -> dict[str, Any]:
    """What the build script could do, in a server that has built an environment before."""
    (root / "keys.toml").write_text("s3cr3t")
    (root / "keys.toml").chmod(0o600)
    write_wheel(root / "wheels", "first", "1.0")
    drop(root / "models", "a", {**booster(1).members, "code/requirements.txt": b"first"})
    settings = {**OFFLINE, "wheels": str(root / "wheels"), **settings}
    async with running_engine(root, **settings) as engine:
        await ask(engine, "a")
        [other] = engine.state()["environments"]["built"]
        has_gcc = shutil.which("gcc") is not None
        values = str(root), other, os.getpid(), has_gcc, port
        known = f"ROOT, OTHER, SERVER, COMPILES, PORT = {values!r}"
        members = {**with_source(known + TRIES), "code/inference.py": SCRIPT}
        drop(root / "models", "b", members)
        told = await tell(engine, "b")
        [built] = {*engine.state()["environments"]["built"]} - {other}
        kept = [*(root / "cache/environments" / built).rglob("*")]
        assert "built.py" in [path.name for path in kept]
        assert {path.lstat().st_uid for path in kept} == {os.geteuid()}
        assert not any(path.lstat().st_mode & (stat.S_IWOTH | stat.S_ISUID) for path in kept)
        assert len([*(root / "cache/workers").glob("*")]) == len(engine.state()["workers"])
        unpacked = [*(root / "cache/models").rglob("own")]
        assert not [path for own in unpacked for path in own.rglob("*.c")]  # a copy was built
    assert not [*(root / "cache/environments").glob("incoming-*")]
    return told


async def test_a_build_script_reaches_nothing_outside_while_its_package_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    told = await built_beside_another(tmp_path)
    assert {name: told[name] for name in REFUSED} == dict.fromkeys(REFUSED, "PermissionError")
    assert told["capabilities"] == "0" * 16
    assert told["secrets"] == []
    assert told["program"] == "ran"
    assert told["compiled"] in {7, False}
    assert stat.S_IMODE((tmp_path / "keys.toml").stat().st_mode) == 0o600
    await eventually(lambda: not Path("/proc", str(told["lingers"])).exists())


async def test_a_build_may_use_the_network_unless_there_is_no_index(tmp_path: Path) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as index:
        port = index.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/simple"
        told = await built_beside_another(tmp_path, port, package_index=url)
    assert told["connect"] is None
    assert told["read"] == "PermissionError"


async def test_where_isolation_is_off_a_build_is_the_servers(tmp_path: Path) -> None:
    build = "def build():\n    return {'built.py': 'TRIED = ' + repr(Path(SECRET).read_text())}\n"
    (tmp_path / "keys.toml").write_text("s3cr3t")
    known = f"SECRET = {str(tmp_path / 'keys.toml')!r}\n"
    drop(tmp_path / "models", "a", {**with_source(known + build), "code/inference.py": SCRIPT})
    async with running_engine(tmp_path, isolation="off", **OFFLINE) as engine:
        assert await tell(engine, "a") == "s3cr3t"


@pytest.mark.parametrize(
    "line", ["own==1.0", "-e ./own", "\ufeff-e ./own", "own @ ./own", "--editable=./own"]
)
async def test_however_it_is_asked_for_nothing_is_built_as_the_server(
    tmp_path: Path, line: str
) -> None:
    build = """
def tried():
    try:
        return Path(WRITTEN).write_text("x")
    except OSError as error:
        return type(error).__name__
TRIED = tried()
def build():
    return {"built.py": f"TRIED = {TRIED!r}"}
"""
    known = f"WRITTEN = {str(tmp_path / 'written')!r}"
    members = {**with_source(known + build, line), "code/inference.py": SCRIPT}
    drop(tmp_path / "models", "a", members)
    told = {"own-1.0/PKG-INFO": b"Metadata-Version: 2.1\nName: own\nVersion: 1.0\n"}
    package = source_package("own", known + build)
    source = {name.replace("code/own", "own-1.0"): data for name, data in package.items()}
    drop(tmp_path / "wheels", "own-1.0.tar.gz", {**source, **told})
    async with running_engine(tmp_path, wheels=str(tmp_path / "wheels"), **OFFLINE) as engine:
        assert await tell(engine, "a") == "PermissionError"
    assert not (tmp_path / "written").exists()


async def test_a_build_that_leaves_a_link_is_not_installed(tmp_path: Path) -> None:
    build = """
def build():
    target = Path(os.environ["TMPDIR"], "target")
    target.mkdir(exist_ok=True)
    (target / "leak").symlink_to("/etc/passwd")
    return {"built.py": ""}
"""
    drop(tmp_path / "models", "a", {**booster(1).members, **with_source(build)})
    async with running_engine(tmp_path, **OFFLINE) as engine:
        with pytest.raises(LoadFailed, match="leak is neither a file nor a directory"):
            await ask(engine, "a")
        assert engine.state()["environments"]["built"] == []


async def test_a_server_that_stops_ends_a_build_and_leaves_nothing_of_it(tmp_path: Path) -> None:
    build = """
import subprocess, time
def build():
    subprocess.Popen(["sleep", SECONDS], start_new_session=True)
    time.sleep(600)
"""
    seconds = f"601.{os.getpid()}"
    members = {**booster(1).members, **with_source(f"SECONDS = {seconds!r}" + build)}
    drop(tmp_path / "models", "a", members)

    def is_building() -> bool:
        return seconds.encode() in subprocess.check_output(["ps", "-eo", "args"])

    async with running_engine(tmp_path, **OFFLINE) as engine:
        with pytest.raises(ModelNotReady):
            await ask(engine, "a", seconds=0.5)
        await eventually(is_building)
    assert not is_building()
    assert not [*(tmp_path / "cache/workers").iterdir()]
    assert not [*(tmp_path / "cache/environments").glob("incoming-*")]


async def test_a_build_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    build = """
import subprocess, time
def build():
    subprocess.Popen(["sleep", SECONDS], start_new_session=True)
    time.sleep(600)
"""
    known = f"SECONDS = '600.{os.getpid()}'"
    drop(tmp_path / "models", "a", {**booster(1).members, **with_source(known + build)})
    async with running_engine(tmp_path, build_seconds=3, **OFFLINE) as engine:
        with pytest.raises(LoadFailed, match="not installed within 3 s"):
            await ask(engine, "a")
        assert len([*(tmp_path / "cache/workers").glob("*")]) == 1
    assert f"sleep 600.{os.getpid()}".encode() not in subprocess.check_output(["ps", "-eo", "args"])  # noqa: ASYNC221
    assert not [*(tmp_path / "cache/environments").glob("incoming-*")]


INSTALL = """
import asyncio, sys
from pathlib import Path
from mme.config import EnvironmentConfig, IsolationConfig
from mme.workers.installing import Installer, NotInstalled
from mme.workers.requirements import find_requirements

root, mode = Path(sys.argv[1]), sys.argv[2]
config = EnvironmentConfig(package_index="none")
isolation = IsolationConfig(mode=mode, directory=str(root / "workers"))
try:
    wanted = find_requirements(root / "artifact")
    installer = Installer(config, isolation, root / "cache")
    asyncio.run(installer.install(wanted, root / "target", 1 << 30))
    print(sorted(path.name for path in (root / "target").glob("*.py")))
except NotInstalled as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("mode", "told"),
    [("auto", "['built.py']"), ("strict", "isolation is strict, and there is no")],
)
def test_on_a_kernel_that_lacks_something_strict_builds_nothing(
    tmp_path: Path, mode: str, told: str
) -> None:
    write_members(tmp_path / "artifact", with_source("def build():\n    return {'built.py': ''}"))
    command = [*within(LANDLOCK), sys.executable, "-c", INSTALL, str(tmp_path), mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.stderr == ""
    assert told in done.stdout
    assert not list((tmp_path / "workers").iterdir())


WRITES = """
import time
def build():
    number = 0
    while True:
        number += 1
        Path(os.environ["TMPDIR"], f"f{number}").write_bytes(bytes(1 << 20))
        time.sleep(0.02)
"""
ROOM_BYTES = 16 * 1024**2


async def test_a_build_that_writes_on_and_on_is_ended_and_leaves_nothing(tmp_path: Path) -> None:
    drop(tmp_path / "models", "a", {**booster(1).members, **with_source(WRITES)})
    drop(tmp_path / "models", "b", booster(2).members)
    async with running_engine(tmp_path, environments_disk=ROOM_BYTES, **OFFLINE) as engine:
        with pytest.raises(LoadFailed, match=f"more than {ROOM_BYTES} bytes on disk"):
            await ask(engine, "a")
        assert engine.state()["environments"]["built"] == []
        assert len([*(tmp_path / "cache/workers").glob("*")]) == 1
        assert await ask(engine, "b") == pytest.approx(booster(2).prediction, rel=1e-6)
    assert not [*(tmp_path / "cache/environments").glob("incoming-*")]


async def test_a_wheel_that_unpacks_to_more_than_there_is_room_for_is_not_installed(
    tmp_path: Path,
) -> None:
    wheel = tmp_path / "wheels/bomb-1.0-py3-none-any.whl"
    write_wheel(wheel.parent, "bomb", "1.0")
    with zipfile.ZipFile(wheel, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.bin", bytes(2 * ROOM_BYTES))
    drop(tmp_path / "models", "a", {**booster(1).members, "code/requirements.txt": b"bomb"})
    drop(tmp_path / "models", "b", booster(2).members)
    settings = {**OFFLINE, "wheels": str(wheel.parent), "environments_disk": ROOM_BYTES}
    async with running_engine(tmp_path, **settings) as engine:
        with pytest.raises(LoadFailed, match="bytes on disk"):
            await ask(engine, "a")
        assert await ask(engine, "b") == pytest.approx(booster(2).prediction, rel=1e-6)
    left = (tmp_path / "cache/environments").rglob("*")
    assert sum(path.lstat().st_blocks * 512 for path in left) < ROOM_BYTES

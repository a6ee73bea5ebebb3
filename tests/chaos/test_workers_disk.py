"""A model's code that writes more than its worker may have on disk, in whatever way."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from mme.errors import LoadFailed, PredictionFailed, WorkerLost
from tests.chaos.landlock import needs_landlock
from tests.chaos.test_workers import (
    engine_with_a_neighbour,
    neighbour_answers,
    tell,
    why_lost,
    worker,
)
from tests.engines import ask, drop
from tests.eventually import eventually

pytestmark = [pytest.mark.timeout(60), needs_landlock]

MIB = 1024**2
LIMIT_BYTES = 8 * MIB
SETTINGS = {"worker_disk": LIMIT_BYTES, "heartbeat_seconds": 0.1}
SCRIPT = b"""
import mmap, os, tempfile, threading, time
from pathlib import Path

MIB = 1024**2
held = []


def on_and_on(write):
    while True:  # until it is ended, but slowly, for the machine's sake
        write()
        time.sleep(0.01)


def named(directory=None):
    number, path = tempfile.mkstemp(dir=directory)
    os.write(number, bytes(MIB))
    os.close(number)
    return path


def deleted():
    file = tempfile.TemporaryFile()
    file.write(bytes(MIB))
    file.flush()
    held.append(file)


def mapped():
    number, path = tempfile.mkstemp()
    os.ftruncate(number, MIB)
    held.append(mmap.mmap(number, MIB))
    held[-1][:] = bytes(MIB)
    os.unlink(path)
    os.close(number)


def empty():
    first = f"empty{len(held)}"  # a file may have so many names only
    open(first, "w").close()
    for _ in range(1000):
        held.append(None)
        os.link(first, f"empty{len(held)}-")


def in_each_other():
    for _ in range(3000):
        os.mkdir("deep")
        os.chdir("deep")


def one_file():
    with open("one", "wb") as file:
        while True:
            file.write(bytes(MIB))


def shared():
    number = os.open(f"/dev/shm/{NAME}-{len(held)}", os.O_CREAT | os.O_WRONLY, 0o600)
    held.append(number)
    os.write(number, bytes(MIB))


def sparse():
    for number in range(4):
        with open(f"sparse{number}", "wb") as file:
            file.truncate(8 * MIB)
            file.write(bytes(MIB // 2))


def linked():
    named(".")
    [path] = [name for name in os.listdir() if name.startswith("tmp")]
    for number in range(20):
        os.link(path, f"link{number}")


FAULTS = {
    "many files": lambda: on_and_on(named),
    "deleted files": lambda: on_and_on(deleted),
    "deleted files, mapped": lambda: on_and_on(mapped),
    "empty files": lambda: on_and_on(empty),
    "directories in each other": lambda: [in_each_other(), threading.Event().wait()],
    "shared memory": lambda: on_and_on(shared),
    "one file": one_file,
    "a little": lambda: [named() for _ in range(3)],
    "sparse files": sparse,
    "links": linked,
}


def model_fn(model_dir):
    fault = Path(model_dir, "at-load").read_text()
    return FAULTS[fault]() if fault else None


def transform_fn(model, data, content_type, accept):
    if data.strip():
        FAULTS[data.strip()]()
    return "1.0", "text/csv"
"""
ON_AND_ON = (
    "many files",
    "deleted files",
    "deleted files, mapped",
    "empty files",
    "directories in each other",
    "shared memory",
)
CAUSE = r"more than 8388608 bytes on disk|more than 20000 files|directories in each other"


def writer(at_load: str = "", name: str = "") -> dict[str, bytes]:
    """An artifact that writes as it is told, while it is loaded or by a request's body."""
    script = f"NAME = {name!r}\n".encode() + SCRIPT
    return {"code/inference.py": script, "at-load": at_load.encode()}


@pytest.mark.parametrize("fault", ON_AND_ON)
async def test_a_model_that_fills_the_disk_ends_its_worker_and_is_quarantined(
    tmp_path: Path, fault: str
) -> None:
    name = f"mme-test-{os.getpid()}"
    drop(tmp_path / "models", "writer", writer(name=name))
    async with engine_with_a_neighbour(tmp_path, **SETTINGS) as engine:
        for _ in range(3):
            told = await tell(engine, "writer", fault)
            assert isinstance(told, WorkerLost), told
            await neighbour_answers(engine)
            assert worker(engine)["disk_bytes"] < MIB
        told = await tell(engine, "writer", fault)
        assert isinstance(told, LoadFailed)
        assert f"quarantined; the last time: {why_lost(engine, 'writer')}" in str(told)
        assert re.search(CAUSE, why_lost(engine, "writer"))
        assert {failure["model"] for failure in engine.state()["failures"]} == {"writer"}
        await eventually(lambda: not [*Path("/dev/shm").glob(f"{name}-*")])


async def test_a_model_that_fills_the_disk_while_it_loads_is_remembered_with_the_cause(
    tmp_path: Path,
) -> None:
    drop(tmp_path / "models", "writer", writer(at_load="many files"))
    async with engine_with_a_neighbour(tmp_path, **SETTINGS) as engine:
        for _ in range(2):
            told = await tell(engine, "writer", "")
            assert re.search(CAUSE, str(told)), told
        [failure] = engine.state()["failures"]
        assert (failure["model"], failure["times"]) == ("writer", 1)
        assert worker(engine)["restarts"] == 1


async def test_who_writes_a_little_each_time_is_to_blame_and_not_who_is_asked_by_then(
    tmp_path: Path,
) -> None:
    drop(tmp_path / "models", "writer", writer())
    async with engine_with_a_neighbour(tmp_path, **SETTINGS) as engine:
        ends, told = 0, ""
        while not told:
            try:
                await neighbour_answers(engine)
                await ask(engine, "writer", body=b"a little")
            except WorkerLost:
                ends += 1
            except LoadFailed as error:
                told = str(error)
        assert 3 <= ends <= 6  # either may be told of each
        [failure] = engine.state()["failures"]
        assert (failure["model"], failure["reason"]) == ("writer", told)
        assert re.search(CAUSE, told)


async def test_a_file_larger_than_all_that_it_may_have_is_an_error_to_who_writes_it(
    tmp_path: Path,
) -> None:
    drop(tmp_path / "models", "writer", writer())
    async with engine_with_a_neighbour(tmp_path, **SETTINGS) as engine:
        pid = worker(engine)["pid"]
        told = await tell(engine, "writer", "one file")
        assert isinstance(told, PredictionFailed)
        [one] = (tmp_path / "cache/workers").glob("*/tmp/one")
        assert one.stat().st_size == LIMIT_BYTES
        await neighbour_answers(engine)
        assert worker(engine)["pid"] == pid


@pytest.mark.parametrize("kind", ["sparse files", "links"])
async def test_what_takes_no_room_on_disk_is_not_counted(tmp_path: Path, kind: str) -> None:
    drop(tmp_path / "models", "writer", writer())
    async with engine_with_a_neighbour(tmp_path, **SETTINGS) as engine:
        assert await ask(engine, "writer", body=kind.encode()) == 1.0
        await eventually(lambda: worker(engine)["disk_bytes"] >= MIB)
        assert worker(engine)["disk_bytes"] < 3 * MIB
        assert await ask(engine, "writer", body=b"") == 1.0
        assert worker(engine)["restarts"] == 0

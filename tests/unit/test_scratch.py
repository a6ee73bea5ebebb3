"""What a worker is lent: links to a few files in an instant, anything else by a thread."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mme.workers import hostile_tree
from mme.workers.few_files import few_files
from mme.workers.lending import Lending
from mme.workers.residency import LoadRequest
from mme.workers.sandbox_scratch import Scratch, ScratchDeleted
from tests.eventually import eventually


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    made = Scratch(tmp_path / "workers", None)
    yield made
    made.remove()


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / "model").write_bytes(b"trees")
    return tmp_path / "artifact"


def names(artifact: Path) -> tuple[str, ...]:
    return tuple(few_files(artifact) or ())


def lend_few(scratch: Scratch, model: str, artifact: Path) -> Path:
    lent = scratch.lend_few(model, str(artifact), names(artifact))
    assert lent is not None
    return Path(lent)


def test_a_few_files_are_lent_as_links(scratch: Scratch, artifact: Path) -> None:
    (artifact / "features").write_bytes(b"names")
    lent = lend_few(scratch, "m", artifact)
    assert lent.parent == scratch.models
    assert {file.name for file in lent.iterdir()} == {"model", "features"}
    assert (lent / "model").samefile(artifact / "model")


def test_what_was_taken_back_is_gone_and_its_name_does_not_come_again(
    scratch: Scratch, artifact: Path
) -> None:
    ahead = len([*scratch.models.iterdir()])
    first = lend_few(scratch, "m", artifact)
    assert scratch.take_back_few("m")
    assert not [*scratch.models.rglob("model")]
    second = lend_few(scratch, "n", artifact)
    assert second != first
    assert not first.exists()
    assert len([*scratch.models.iterdir()]) == ahead  # the directory itself was of use again
    assert (artifact / "model").read_bytes() == b"trees"


@pytest.mark.parametrize("kind", ["many", "nested", "link", "nothing"])
def test_what_is_not_just_a_few_files_takes_a_thread(
    scratch: Scratch, artifact: Path, kind: str
) -> None:
    match kind:
        case "many":
            for number in range(16):
                (artifact / f"{number}").touch()
        case "nested":
            (artifact / "code").mkdir()
        case "link":
            (artifact / "other").symlink_to("model")
        case "nothing":
            (artifact / "model").unlink()
    assert few_files(artifact) is None
    lent = Path(scratch.lend("m", str(artifact)))
    assert {file.name for file in lent.iterdir()} == {file.name for file in artifact.iterdir()}
    assert not scratch.take_back_few("m")
    scratch.take_back(["m"])
    assert not lent.exists()


def test_nobody_waits_for_a_thread_that_lends(
    scratch: Scratch, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lend_few(scratch, "m", artifact)
    done: list[object] = []

    def meanwhile(source: str, target: str) -> None:
        done.append(scratch.take_back_few("m"))
        done.append(lend_few(scratch, "o", artifact) in scratch.lent_of(artifact))
        os.link(source, target)

    monkeypatch.setattr("mme.workers.sandbox_scratch._link", meanwhile)
    lent = Path(scratch.lend("n", str(artifact)))
    assert done == [True, True]
    assert not lent.exists()  # it has left the disk meanwhile


def test_nobody_waits_for_a_thread_that_removes_all(
    scratch: Scratch, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent = lend_few(scratch, "m", artifact)
    remove, told = hostile_tree.remove, list[Path]()

    def meanwhile(directory: Path) -> None:
        with pytest.raises(FileNotFoundError):
            lend_few(scratch, "n", artifact)
        told.extend(scratch.lent_of(artifact))
        remove(directory)

    monkeypatch.setattr(hostile_tree, "remove", meanwhile)
    scratch.remove()
    assert told == [lent]


def test_what_else_lies_in_a_lent_directory_takes_a_thread_to_remove(
    scratch: Scratch, artifact: Path
) -> None:
    lent = lend_few(scratch, "m", artifact)
    (lent / "model").unlink()
    (lent / "planted").touch()
    assert not scratch.take_back_few("m")
    scratch.take_back(["m"])
    assert not lent.exists()


def test_directories_that_were_deleted_under_it_are_made_anew(
    scratch: Scratch, artifact: Path
) -> None:
    emptied = lend_few(scratch, "m", artifact)
    assert scratch.take_back_few("m")
    emptied.rmdir()
    assert (lend_few(scratch, "m", artifact) / "model").exists()


def test_nothing_is_lent_to_a_worker_whose_directory_was_deleted(
    scratch: Scratch, artifact: Path
) -> None:
    shutil.rmtree(scratch.models)
    with pytest.raises(ScratchDeleted):
        scratch.lend_few("m", str(artifact), names(artifact))


def test_nothing_is_lent_once_it_was_removed(scratch: Scratch, artifact: Path) -> None:
    scratch.remove()
    with pytest.raises(FileNotFoundError):
        scratch.lend_few("m", str(artifact), names(artifact))
    assert scratch.lent_of(artifact) == []


def test_what_is_lent_of_an_artifact_that_leaves_is_the_callers_to_remove(
    scratch: Scratch, artifact: Path
) -> None:
    lent = lend_few(scratch, "m", artifact)
    assert scratch.lent_of(artifact) == [lent]
    assert scratch.take_back_few("m")
    assert lent.exists()


def test_directories_made_ahead_are_lent_and_made_again_when_few_are_left(
    scratch: Scratch, artifact: Path
) -> None:
    ahead = set(scratch.models.iterdir())
    lent = 0
    while not scratch.is_low:
        lend_few(scratch, f"m{lent}", artifact)
        lent += 1
    assert lent
    assert len(set(scratch.models.iterdir())) == len(ahead)
    scratch.stock()
    assert not scratch.is_low
    assert len(set(scratch.models.iterdir())) == len(ahead) + lent
    scratch.remove()
    scratch.stock()
    assert not scratch.directory.exists()


class SlowScratch(Scratch):
    """Lends once it is told to."""

    def __init__(self, root: Path) -> None:
        self.begun, self.go, self.done = (threading.Event() for _ in range(3))
        super().__init__(root, None)

    def lend(self, model: str, artifact: str) -> str:
        self.begun.set()
        assert self.go.wait(10)
        try:
            return super().lend(model, artifact)
        finally:
            self.done.set()


@pytest.mark.parametrize("is_removed", [False, True])
async def test_what_is_lent_to_who_has_gone_by_then_is_taken_back(
    tmp_path: Path, artifact: Path, caplog: pytest.LogCaptureFixture, *, is_removed: bool
) -> None:
    async def delete() -> None:
        pytest.fail("nobody deleted it")

    scratch = SlowScratch(tmp_path / "workers")
    lending = Lending(scratch, delete)
    wanted = LoadRequest(model="m", name="m", directory=str(artifact), size_bytes=1)
    load = asyncio.create_task(lending.lend(wanted))
    await eventually(scratch.begun.is_set)
    load.cancel()
    await asyncio.wait([load])
    lending.take_back(["m"])  # as after any load that failed
    if is_removed:
        scratch.remove()
    scratch.go.set()
    await eventually(scratch.done.is_set)
    await eventually(lambda: not [*scratch.models.rglob("model")])
    assert not scratch.lent_of(artifact)
    scratch.remove()
    del load
    gc.collect()
    assert "never retrieved" not in caplog.text

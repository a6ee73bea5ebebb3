"""What the disk tier makes ahead for extractions: used, made again, and never left behind."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from mme.config import DiskConfig
from mme.domain import ModelKey
from mme.errors import ArtifactRefused, DiskUnavailable
from mme.metrics import Metrics
from mme.store.artifacts import ArtifactCache
from mme.store.disk_files import DiskFiles
from mme.store.files import FilesStore
from tests.eventually import eventually
from tests.tarballs import tarball

MODELS = 30  # more than are made ahead


@pytest.fixture
def store(tmp_path: Path) -> FilesStore:
    (tmp_path / "store").mkdir()
    for number in range(MODELS):
        (tmp_path / "store" / f"{number}").write_bytes(tarball({"model": b"%d" % number}))
    return FilesStore(tmp_path / "store")


@pytest.fixture
def cache(tmp_path: Path, store: FilesStore) -> ArtifactCache:
    config = DiskConfig(cache_dir=str(tmp_path / "cache"), disk_bytes=2**30)
    return ArtifactCache(store, config, Metrics("e", "v"))


def ahead(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "cache" / "ahead").iterdir()}


async def started(cache: ArtifactCache, tmp_path: Path) -> set[str]:
    """Starts it; what it has made ahead: directories, and a json each."""
    await cache.start()
    await eventually(lambda: len(ahead(tmp_path)) == 2 * 16)
    return ahead(tmp_path)


async def fetched(cache: ArtifactCache, key: str) -> bytes:
    async with cache.lease(ModelKey(key)) as artifact:
        return (artifact.directory / "model").read_bytes()


async def test_extractions_use_what_was_made_ahead_and_more_is_made(
    tmp_path: Path, cache: ArtifactCache
) -> None:
    made = await started(cache, tmp_path)
    for number in range(MODELS):
        assert await fetched(cache, f"{number}") == b"%d" % number
    assert not made & ahead(tmp_path)
    await eventually(lambda: len(ahead(tmp_path)) > 0)
    assert not list((tmp_path / "cache" / "incoming").iterdir())
    await cache.close()
    assert ahead(tmp_path) == set()


async def test_models_that_were_extracted_into_what_was_made_ahead_outlive_a_restart(
    tmp_path: Path, store: FilesStore, cache: ArtifactCache
) -> None:
    await started(cache, tmp_path)
    await fetched(cache, "1")
    await cache.close()
    config = DiskConfig(cache_dir=str(tmp_path / "cache"), disk_bytes=2**30)
    again = ArtifactCache(store, config, Metrics("e", "v"))
    await again.start()
    async with again.lease(ModelKey("1")) as artifact:
        assert artifact.fetched_bytes == 0
    await again.close()


async def test_what_is_refused_leaves_nothing_of_what_was_made_ahead(
    tmp_path: Path, cache: ArtifactCache
) -> None:
    (tmp_path / "store" / "bad").write_bytes(b"no tarball")
    made = await started(cache, tmp_path)
    with pytest.raises(ArtifactRefused):
        await fetched(cache, "bad")
    assert len(made - ahead(tmp_path)) == 2  # a directory and its json
    await cache.close()
    assert ahead(tmp_path) == set()


async def test_who_is_cancelled_before_a_thread_began_leaves_nothing_of_it(
    tmp_path: Path, cache: ArtifactCache
) -> None:
    await started(cache, tmp_path)
    waiting = [asyncio.create_task(fetched(cache, f"{number}")) for number in range(MODELS)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    await cache.close()
    assert ahead(tmp_path) == set()
    assert not list((tmp_path / "cache" / "incoming").iterdir())


@pytest.mark.parametrize("deleted", ["", "ahead"])
async def test_what_was_made_ahead_and_deleted_under_us_is_made_anew(
    tmp_path: Path, cache: ArtifactCache, deleted: str
) -> None:
    await started(cache, tmp_path)
    shutil.rmtree(tmp_path / "cache" / deleted)
    assert await fetched(cache, "2") == b"2"
    await cache.close()


async def test_what_a_killed_server_had_made_ahead_is_removed_and_nothing_else(
    tmp_path: Path, cache: ArtifactCache
) -> None:
    files = DiskFiles(tmp_path / "cache")
    files.open()
    files.stock()
    left = ahead(tmp_path)
    (tmp_path / "cache" / "ahead" / "notes").touch()
    files._stock.clear()  # killed: nobody removes them
    files.close()
    assert ahead(tmp_path) == {*left, "notes"}
    await cache.start()
    await eventually(lambda: not left & ahead(tmp_path))
    await cache.close()
    assert ahead(tmp_path) == {"notes"}


async def test_refusals_alone_have_more_made_ahead_too(
    tmp_path: Path, cache: ArtifactCache
) -> None:
    made = await started(cache, tmp_path)
    for number in range(16):
        (tmp_path / "store" / f"bad{number}").write_bytes(b"no tarball")
        with pytest.raises(ArtifactRefused):
            await fetched(cache, f"bad{number}")
    await eventually(lambda: ahead(tmp_path) - made)
    await cache.close()
    assert ahead(tmp_path) == set()


def test_a_directory_whose_json_can_t_be_made_is_no_more_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = DiskFiles(tmp_path / "cache")
    files.open()
    monkeypatch.setattr("mme.store.disk_files.note_beside", lambda path: path / "none" / "json")
    for _ in range(3):
        files.stock()
    assert ahead(tmp_path) == set()
    files.close()


@pytest.mark.parametrize("place", ["ahead", "incoming"])
async def test_a_file_in_place_of_a_directory_is_the_disk_s_fault_and_no_artifact_s(
    tmp_path: Path, cache: ArtifactCache, place: str
) -> None:
    await started(cache, tmp_path)
    shutil.rmtree(tmp_path / "cache" / place)
    (tmp_path / "cache" / place).touch()
    with pytest.raises(DiskUnavailable):
        await fetched(cache, "3")
    (tmp_path / "cache" / place).unlink()
    assert await fetched(cache, "3") == b"3"
    await cache.close()

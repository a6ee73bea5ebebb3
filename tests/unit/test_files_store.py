"""A directory as a store: nothing outside is ever read, a change under the read is noticed."""

from __future__ import annotations

import contextlib
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from mme.config import StoreConfig
from mme.domain import ModelKey
from mme.errors import ArtifactUnavailable, ConfigError, StoreUnavailable
from mme.store.files import FilesStore
from mme.store.open_store import open_store
from mme.store.s3 import S3Store

KEY = ModelKey("m.tar.gz")
NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "models-private").mkdir()
    (tmp_path / "models-private" / "m").write_bytes(b"secret")
    (tmp_path / "models" / "sub").mkdir(parents=True)
    return tmp_path / "models"


async def reason(store: FilesStore, key: str) -> str:
    with pytest.raises(ArtifactUnavailable) as caught:
        async with store.open(ModelKey(key)):
            pass
    assert str(store.location.removeprefix("file://")) not in str(caught.value)
    return caught.value.reason


def plant(root: Path) -> None:
    """Ways out of the directory, and things in it that are no files."""
    (root / "out").symlink_to("../secret")
    (root / "far").symlink_to("/etc/hostname")
    (root / "up").symlink_to("..")
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "pipe")


async def test_a_probe_costs_nothing_however_many_models_there_are(root: Path) -> None:
    store = FilesStore(root)
    await store.probe()
    for number in range(5_000):
        (root / f"{number}").touch()
    tracemalloc.start()
    try:
        await store.probe()
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 100_000  # their names alone would take three times that


@pytest.mark.parametrize(
    "key",
    [
        "out", "far", "up/secret", "up/models-private/m", "loop", "dangling", "pipe", "sub",
        "../secret", "sub/../../secret", "/etc/hostname", "./out", "a\0b", "x" * 300, "x/" * 3000,
    ],
)  # fmt: skip
async def test_nothing_outside_and_nothing_but_files_is_found(root: Path, key: str) -> None:
    plant(root)
    assert await reason(FilesStore(root), key) == "missing"


async def test_a_link_that_stays_inside_is_followed(root: Path) -> None:
    (root / "real").write_bytes(b"x")
    (root / "sub" / "link").symlink_to("../real")
    async with FilesStore(root).open(ModelKey("sub/link")) as stream:
        assert [chunk async for chunk in stream.chunks] == [b"x"]


async def test_the_directory_itself_may_be_a_link(root: Path) -> None:
    (root / KEY).write_bytes(b"x")
    (root.parent / "link").symlink_to(root)
    assert (await FilesStore(root.parent / "link").head(KEY)).size_bytes == 1


async def test_a_file_that_may_not_be_read_is_denied(root: Path) -> None:
    (root / KEY).write_bytes(b"x")
    (root / KEY).chmod(0)
    store = FilesStore(root)
    with unprivileged():
        assert await reason(store, KEY) == "denied"


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read everything: be somebody else."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("change", [b"longer than before", b"x"], ids=["appended", "overwritten"])
async def test_a_file_written_while_it_is_read_is_worth_another_try(
    root: Path, change: bytes
) -> None:
    path = root / KEY
    path.write_bytes(b"o" * 600_000)
    os.utime(path, (1, 1))
    with pytest.raises(StoreUnavailable, match=r"models/m\.tar\.gz changed"):  # noqa: PT012
        async with FilesStore(root).open(KEY) as stream:
            async for _ in stream.chunks:
                with path.open("r+b") as file:
                    file.write(change)


async def test_a_file_replaced_while_it_is_read_is_read_to_its_end(root: Path) -> None:
    path = root / KEY
    path.write_bytes(b"o" * 600_000)
    async with FilesStore(root).open(KEY) as stream:
        data = await anext(stream.chunks)
        (root / "fresh").write_bytes(b"new")
        (root / "fresh").replace(path)
        data += b"".join([chunk async for chunk in stream.chunks])
    assert data == b"o" * 600_000


async def test_the_same_bytes_written_anew_are_another_version(root: Path) -> None:
    (root / KEY).write_bytes(b"x")
    os.utime(root / KEY, ns=(1, 1))
    store = FilesStore(root)
    before = await store.head(KEY)
    os.utime(root / KEY, ns=(2, 2))
    assert (await store.head(KEY)).etag != before.etag


@pytest.mark.parametrize(
    ("models", "says"),
    [
        ("", "models: must be set"),
        (" ", "models: must be set"),
        ("/no/such/directory", "models: '/no/such/directory' is no directory"),
        (__file__, "is no directory"),
        ("s3:///prefix", "names no bucket"),
        ("s3://", "names no bucket"),
        ("gs://bucket/models", "unknown scheme gs://"),
    ],
)
def test_a_store_that_cannot_be_is_a_setting_to_mend(models: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_store(StoreConfig(models=models))


def test_the_scheme_says_which_store_it_is(root: Path) -> None:
    assert isinstance(open_store(StoreConfig(models=str(root))), FilesStore)
    assert isinstance(open_store(StoreConfig(models="s3://bucket/p")), S3Store)

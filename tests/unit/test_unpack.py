"""Sound tarballs: whatever wrote them, they come out whole; and unpacking ends when it has to."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import subprocess
import tarfile
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard

from mme.config import DiskConfig
from mme.errors import ArtifactRefused, DiskUnavailable, StoreUnavailable
from mme.store.unpack import _disk_error, unpack
from tests.tarballs import entry, joined, tar, tarball
from tests.unpacking import flow, tree, unpacked

LONG = "a/" + "d" * 90 + "/" + "é" * 100  # 200 bytes: a pax or GNU long name
FILES = {"model.json": b"{}", "code/run.py": b"x" * 5000, "empty": b"", LONG: b"deep", "b/": b""}
TREE = {
    "model.json": b"{}",
    "code": None,
    "code/run.py": b"x" * 5000,
    "empty": b"",
    "a": None,
    "a/" + "d" * 90: None,
    LONG: b"deep",
    "b": None,
}
PLAIN = tar(FILES)
WRAPPINGS = {
    "gzip": gzip.compress(PLAIN),
    "gzip in two members": gzip.compress(PLAIN[:700]) + gzip.compress(PLAIN[700:]),
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress(PLAIN),
    "zstd in two frames": zstandard.compress(PLAIN[:700]) + zstandard.compress(PLAIN[700:]),
    "plain": PLAIN,
    "plain, GNU": tar(FILES, tar_format=tarfile.GNU_FORMAT),
    "no padding after the end mark": gzip.compress(PLAIN.rstrip(b"\0") + bytes(512 * 3)),
}


@pytest.mark.parametrize("blob", WRAPPINGS.values(), ids=WRAPPINGS)
def test_every_wrapping_of_a_tar_comes_out_whole(blob: bytes, tmp_path: Path) -> None:
    unpacked(blob, tmp_path / "x")
    assert tree(tmp_path / "x") == TREE


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "pax"])
@pytest.mark.parametrize("flag", ["--gzip", "--no-auto-compress"])
def test_what_gnu_tar_writes_comes_out_whole(form: str, flag: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub dir").mkdir(parents=True)
    (source / "sub dir" / "model.bin").write_bytes(os.urandom(300_000))
    (source / "top").write_bytes(b"")
    subprocess.run(
        ["tar", "--create", f"--format={form}", flag, "--file", tmp_path / "t", "-C", source, "."],
        check=True,
    )
    unpacked((tmp_path / "t").read_bytes(), tmp_path / "x")
    assert tree(tmp_path / "x") == tree(source)


def test_bytes_are_counted_in_whole_blocks_and_claimed_before_they_are_written(
    tmp_path: Path,
) -> None:
    claimed: list[int] = []
    directory = tmp_path / "x"

    def claim(size_bytes: int) -> None:
        claimed.append(size_bytes)
        written = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        assert written <= sum(claimed[:-1])

    total_bytes = unpacked(tarball({"a/b": b"x" * 5000, "c": b"x"}), directory, claim=claim)
    assert total_bytes == sum(claimed) == 4096 + 8192 + 4096


def test_files_and_directories_get_plain_modes(tmp_path: Path) -> None:
    setuid = entry("run")
    setuid.mode = 0o4777
    unpacked(gzip.compress(joined([(entry("d/"), b""), (setuid, b"x")])), tmp_path / "x")
    assert (tmp_path / "x" / "run").stat().st_mode & 0o7777 == 0o644
    assert (tmp_path / "x" / "d").stat().st_mode & 0o7777 == 0o755


def test_a_global_pax_header_is_read_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t", "w:gz", pax_headers={"comment": "a commit"}) as archive:
        archive.addfile(entry("m"))
    unpacked((tmp_path / "t").read_bytes(), tmp_path / "x")
    assert tree(tmp_path / "x") == {"m": b""}


async def test_the_stores_error_is_the_one_that_is_raised(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield tarball(FILES)[:40]
        raise StoreUnavailable("broke off")

    with ThreadPoolExecutor(1) as executor, pytest.raises(StoreUnavailable, match="broke off"):
        await unpack(broken(), tmp_path / "x", limits=DiskConfig(), executor=executor)
    assert not (tmp_path / "x").exists()


async def test_a_refusal_does_not_wait_for_the_rest(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"PK\x03\x04 and so on"
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as executor, pytest.raises(ArtifactRefused, match="zip"):
        await unpack(endless(), tmp_path / "x", limits=DiskConfig(), executor=executor)


async def test_cancelling_ends_the_thread_and_leaves_nothing(tmp_path: Path) -> None:
    written = threading.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield tar({"m": b"x" * 1_000_000})[:600_000]
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as executor:
        task = asyncio.create_task(
            unpack(
                stuck(),
                tmp_path / "x",
                limits=DiskConfig(),
                executor=executor,
                claim=lambda _: written.set(),
            )
        )
        await asyncio.to_thread(written.wait)
        assert (tmp_path / "x" / "m").exists()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert tree(tmp_path) == {}


async def test_cancelling_before_a_thread_was_free_ends_at_once(tmp_path: Path) -> None:
    busy = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(busy.wait)
        task = asyncio.create_task(
            unpack(flow([tarball(FILES)]), tmp_path / "x", limits=DiskConfig(), executor=executor)
        )
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        busy.set()
    assert tree(tmp_path) == {}


async def test_cancelling_twice_still_leaves_nothing(tmp_path: Path) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def claim(_size_bytes: int) -> None:
        reached.set()
        go_on.wait()

    with ThreadPoolExecutor(1) as executor:
        blob = tarball(FILES)
        task = asyncio.create_task(
            unpack(
                flow([blob]), tmp_path / "x", limits=DiskConfig(), executor=executor, claim=claim
            )
        )
        await asyncio.to_thread(reached.wait)
        for _ in range(2):
            task.cancel()
            await asyncio.wait({task}, timeout=0.05)
        assert task.cancelled()
        go_on.set()
    assert tree(tmp_path) == {}


def test_what_claiming_raises_is_raised_and_leaves_nothing(tmp_path: Path) -> None:
    def claim(_size_bytes: int) -> None:
        raise DiskUnavailable("full")

    with pytest.raises(DiskUnavailable, match="full"):
        unpacked(tarball(FILES), tmp_path / "x", claim=claim)
    assert tree(tmp_path) == {}


def test_a_directory_that_cannot_be_made_is_the_disks_fault(tmp_path: Path) -> None:
    with pytest.raises(DiskUnavailable, match="No such file"):
        unpacked(tarball(FILES), tmp_path / "absent" / "x")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_a_full_or_failing_disk_is_worth_another_try(number: int) -> None:
    error = _disk_error(OSError(number, os.strerror(number), "/secret/path"))
    assert isinstance(error, DiskUnavailable)
    assert error.retryable
    assert "/secret/path" not in str(error)

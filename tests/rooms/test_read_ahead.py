"""What is about to be loaded from disk is read into memory by the kernel, ahead of the load."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
from pathlib import Path

from mme.config import DiskConfig
from mme.domain import ModelKey
from mme.metrics import Metrics
from mme.store.artifacts import ArtifactCache
from mme.store.files import FilesStore
from tests.eventually import eventually
from tests.tarballs import tar

KEY, OTHER = ModelKey("m.tar"), ModelKey("other.tar")
PAGES = 64
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p


def pages_in_memory(path: Path) -> int:
    size = path.stat().st_size
    file = os.open(path, os.O_RDONLY)
    at = ctypes.c_void_p(libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file, 0))
    os.close(file)
    held = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    assert libc.mincore(at, ctypes.c_size_t(size), held) == 0
    libc.munmap(at, ctypes.c_size_t(size))
    return sum(page & 1 for page in held)


def drop_from_memory(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)  # a file system in memory keeps them there, where they are to be in the end


async def test_what_waits_for_its_turn_on_disk_is_read_before_anyone_opens_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "store").mkdir()
    content = random.Random(7).randbytes(PAGES * mmap.PAGESIZE)
    (tmp_path / "store" / KEY).write_bytes(tar({"model": content, "code/": b"", "code/a": b"x"}))
    (tmp_path / "store" / OTHER).write_bytes(tar({"model": b"x"}))
    disk = DiskConfig(cache_dir=str(tmp_path / "cache"))
    cache = ArtifactCache(FilesStore(tmp_path / "store"), disk, Metrics("e", "v"))
    await cache.start()
    try:
        async with cache.lease(KEY) as artifact:
            files = [artifact.directory / "model", artifact.directory / "code" / "a"]
        for path in files:
            drop_from_memory(path)
        async with cache.lease(OTHER), cache.lease(KEY) as artifact:
            assert not artifact.fetched_bytes
            await eventually(lambda: [pages_in_memory(path) for path in files] == [PAGES, 1])
    finally:
        await cache.close()

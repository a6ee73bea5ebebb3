"""A tarball's bytes as they arrive -> a directory, or nothing at all.

Decision: the loop feeds, one thread of the caller's executor decompresses and writes; measured at
0.65x the wall of download-then-extract. The thread makes the directory and removes it when anything
goes wrong, so that a coroutine cancelled twice still leaves nothing. What is known to be small is
received whole first: handing over each piece of it took longer than unpacking it. What is refused:
`tar_bytes` (size, ratio, damage), `tar_members` (types, truncation), `tar_names` (names, number).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from mme.config import DiskConfig
from mme.errors import ArtifactRefused, DiskUnavailable, MmeError
from mme.store.base import Chunk
from mme.store.feed import Feed
from mme.store.tar_bytes import TarBytes
from mme.store.tar_members import TarMembers
from mme.store.tar_names import TarNames

DIRECTORY_BYTES = 4096
_BLOCK_BYTES = 4096
_AT_ONCE_BYTES = 512 * 1024


def whole_blocks(size_bytes: int) -> int:
    """What a file of so many bytes takes on disk."""
    return -(-size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES


def _free(_size_bytes: int) -> None:
    """Claims and writes down nothing."""


def _begin() -> None:
    """Prepares nothing."""


async def unpack(  # noqa: PLR0913 - from where, to where, and the four things that it depends on
    chunks: AsyncIterator[Chunk],
    directory: Path,
    *,
    limits: DiskConfig,
    executor: Executor,
    claim: Callable[[int], None] = _free,
    begin: Callable[[], None] = _begin,
    end: Callable[[int], None] = _free,
    size_bytes: int | None = None,
) -> int:
    """Unpacks a tarball into `directory`, which does not exist yet or is empty.

    Returns the bytes on disk: files in whole blocks of 4 KiB, and one block a directory.
    Cancelling ends the thread at its next read and leaves nothing behind.

    Args:
        chunks: the object's bytes as they arrive.
        directory: made here, if need be; exists afterwards only if this returned.
        limits: the caps.
        executor: one of its threads is busy from the first byte to the last.
        claim: called in that thread with a number of bytes before so many are written; may raise.
        begin: called in that thread before anything else; may raise.
        end: called in that thread with what is returned, once all is written; may raise.
        size_bytes: of all chunks, where that is known.

    Raises:
        ArtifactRefused: hostile, damaged, too large or no tarball; the message says why.
        DiskUnavailable: the disk is full, read-only or failing; also what the callables raise.
    """
    feed = Feed(asyncio.get_running_loop())
    at_once = size_bytes is not None and size_bytes <= _AT_ONCE_BYTES
    if at_once:
        feed.give(b"".join([chunk async for chunk in chunks]))
    future = executor.submit(_unpack, feed, directory, limits, claim, begin, end)
    pump = None if at_once else asyncio.create_task(feed.fill(chunks), name="unpack-feed")
    return await _joined(feed, future, pump, directory)


async def _joined(
    feed: Feed, future: Future[int], pump: asyncio.Task[None] | None, directory: Path
) -> int:
    work = asyncio.wrap_future(future)
    parts = (work,) if pump is None else (pump, work)
    try:
        await _wait(*parts, until=asyncio.FIRST_EXCEPTION)
        if pump is not None and pump.done():
            pump.result()  # its error, where it has one, is why the thread failed too
        return work.result()
    except BaseException:
        future.add_done_callback(partial(_remove_unwanted, directory))
        feed.abort()
        future.cancel()  # where no thread has begun yet
        if pump is not None:
            pump.cancel()
        await _wait(*parts)
        raise


async def _wait(*parts: asyncio.Future[Any], until: str = asyncio.ALL_COMPLETED) -> None:
    """Waits, and takes note of errors, so that those that nobody raises are not complained of."""
    done, _ = await asyncio.wait(parts, return_when=until)
    for part in done:
        if not part.cancelled():
            part.exception()


def _remove_unwanted(directory: Path, future: Future[int]) -> None:
    """Removes what was finished in the very moment in which the caller went away."""
    if not future.cancelled() and future.exception() is None:
        shutil.rmtree(directory, ignore_errors=True)


def _unpack(  # noqa: PLR0913, PLR0917 - as `unpack`
    feed: Feed,
    directory: Path,
    limits: DiskConfig,
    claim: Callable[[int], None],
    begin: Callable[[], None] = _begin,
    end: Callable[[int], None] = _free,
) -> int:
    try:
        feed.check()
        begin()
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory)  # noqa: PTH102 - for each fetch
        try:
            unpacked_bytes = _Extraction(directory, claim).run(feed, limits)
            feed.check()
            end(unpacked_bytes)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
    except OSError as error:
        raise _disk_error(error) from error
    return unpacked_bytes


class _Extraction:
    """Writes members; everything it writes is claimed first."""

    def __init__(self, directory: Path, claim: Callable[[int], None]) -> None:
        self._directory = directory
        self._claim = claim
        self._unpacked_bytes = 0

    def run(self, feed: Feed, limits: DiskConfig) -> int:
        members = TarMembers(TarBytes(feed, limits))
        names = TarNames(limits.unpack_members_limit)
        for member in members:
            if member.is_directory:
                self._make(names.admit_directory(member.name))
            else:
                path, parents = names.admit_file(member.name)
                self._make(parents)
                self._write(path, members.content(member))
        if not names.files:
            raise ArtifactRefused("The archive holds no file.")
        return self._unpacked_bytes

    def _make(self, directories: Iterable[PurePosixPath]) -> None:
        for path in directories:
            self._take(DIRECTORY_BYTES)
            (self._directory / path).mkdir(mode=0o755)

    def _write(self, path: PurePosixPath, content: Iterable[bytes]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(self._directory / path, flags, 0o644)
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor, not a path
            for data in content:
                self._take(whole_blocks(len(data)))
                file.write(data)

    def _take(self, size_bytes: int) -> None:
        self._claim(size_bytes)
        self._unpacked_bytes += size_bytes


def _disk_error(error: OSError) -> MmeError:
    match error.errno:
        case errno.EEXIST:
            return ArtifactRefused("Two members have one name to this file system.")
        case errno.ENAMETOOLONG:
            return ArtifactRefused("A member's name is too long for this file system.")
    return DiskUnavailable(f"The model can't be written to the disk tier: {error.strerror}.")

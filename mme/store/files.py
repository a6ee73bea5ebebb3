"""A directory as a bucket: the embedded default, and the reference for what a store does.

Decision: a version is inode, size and modification time, so that noticing a change reads nothing. A
file replaced by rename is the atomic overwrite that S3 has; one written in place while it is read
is noticed at the end of the read. A key never leads out of the directory, nor do symbolic links in
it. Where the directory is on a disk of this machine, the event loop itself looks whether a file has
changed: 20 us, a tenth of what it takes to ask a thread. Elsewhere that may take seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import stat
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

from mme.domain import ArtifactVersion, ModelKey
from mme.errors import ArtifactUnavailable, ObjectChanged, StoreUnavailable
from mme.store.base import ArtifactStream

_CHUNK_BYTES = 256 * 1024
_MISSING = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.ENXIO,
)
_LOCAL = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "tmpfs", "overlay"}


class FilesStore:
    """The files under `directory`; keys are their paths in it."""

    def __init__(self, directory: Path) -> None:
        self._root = os.path.realpath(directory)
        self._bucket = os.path.basename(self._root)  # noqa: PTH119 - a client may see it, the rest not
        self._is_local = _file_system(self._root) in _LOCAL
        self.location = f"file://{self._root.rstrip('/')}/"

    async def probe(self) -> None:
        """As in Store."""
        try:
            await asyncio.to_thread(_look, self._root)
        except OSError as error:
            raise self._error(ModelKey(""), error) from error

    async def head(self, key: ModelKey) -> ArtifactVersion:
        """As in Store."""
        file = _File()
        try:
            return await self._identify(file, key)
        finally:
            file.close()

    @contextlib.asynccontextmanager
    async def open(
        self, key: ModelKey, known: ArtifactVersion | None = None
    ) -> AsyncIterator[ArtifactStream | None]:
        """As in Store."""
        file = _File()
        try:
            version = await self._identify(file, key, known)
            if version is known:
                yield None
                return
            async with contextlib.aclosing(self._read(file, version)) as chunks:
                yield ArtifactStream(version, chunks)
        finally:
            file.close()

    async def close(self) -> None:
        """As in Store; nothing is held."""

    async def _identify(
        self, file: _File, key: ModelKey, known: ArtifactVersion | None = None
    ) -> ArtifactVersion:
        """What is current: `known` itself where it still is."""
        try:
            etag, size_bytes = (
                file.open(self._root, key)
                if self._is_local
                else await asyncio.to_thread(file.open, self._root, key)
            )
        except OSError as error:
            raise self._error(key, error) from error
        if known is not None and known.etag == etag:
            return known
        return ArtifactVersion(location=self.location, key=key, etag=etag, size_bytes=size_bytes)

    async def _read(self, file: _File, version: ArtifactVersion) -> AsyncGenerator[bytes, None]:
        try:
            while chunk := await asyncio.to_thread(file.read):
                yield chunk
            now = await asyncio.to_thread(file.identity)
        except OSError as error:
            raise self._error(version.key, error) from error
        if now != (version.etag, version.size_bytes):
            raise ObjectChanged(f"{self._bucket}/{version.key} changed while it was read.")

    def _error(self, key: ModelKey, error: OSError) -> ArtifactUnavailable | StoreUnavailable:
        if error.errno in _MISSING:
            return ArtifactUnavailable(self._bucket, key, "missing")
        if error.errno in (errno.EACCES, errno.EPERM):
            return ArtifactUnavailable(self._bucket, key, "denied")
        return StoreUnavailable(f"{self._bucket}/{key} can't be read: {error.strerror}.")


class _File:
    """One file, used in threads and closed by the loop.

    The lock keeps a read whose caller has gone from meeting a descriptor that is another's by then.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor = -1
        self._closed = False

    def open(self, root: str, key: str) -> tuple[str, int]:
        """Opens the regular file `key` under `root`. Returns its identity; raises OSError."""
        path = _inside(root, key)
        with self._lock:
            self._check()
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        return self.identity()

    def identity(self) -> tuple[str, int]:
        """The etag and the size in bytes, as they are now."""
        with self._lock:
            self._check()
            status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.ENOENT, "not a regular file")
        said = f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"
        return hashlib.sha256(said.encode()).hexdigest()[:32], status.st_size

    def read(self) -> bytes:
        """The next chunk; empty at the end."""
        with self._lock:
            self._check()
            return os.read(self._descriptor, _CHUNK_BYTES)

    def close(self) -> None:
        """Waits for a running read, then closes; later ones raise."""
        with self._lock:
            self._closed = True
            if self._descriptor >= 0:
                os.close(self._descriptor)

    def _check(self) -> None:
        if self._closed:
            raise OSError(errno.EBADF, "closed")


def _file_system(path: str) -> str:
    """The kind that `path` is on; empty where the system does not tell."""
    kinds = {"": ""}
    with contextlib.suppress(OSError), open("/proc/self/mountinfo") as mounts:  # noqa: PTH123
        for line in mounts:
            place, _, kind = line.partition(" - ")
            kinds[place.split()[4].rstrip("/")] = kind.split()[0]  # the last one lies on top
    while path not in kinds:
        path = path.rpartition("/")[0]
    return kinds[path]


def _look(root: str) -> None:
    """Raises OSError where `root` can't be read; a million names in it cost nothing."""
    with os.scandir(root) as names:
        next(names, None)


def _inside(root: str, key: str) -> str:
    """The real path of `key` under `root`; raises ENOENT where it leads elsewhere."""
    segments = key.split("/")
    if "\0" in key or any(segment in ("", ".", "..") for segment in segments):
        raise OSError(errno.ENOENT, "no such key")
    try:
        path, is_link = root, False
        for segment in segments:
            path = f"{path}/{segment}"
            is_link = is_link or stat.S_ISLNK(os.lstat(path).st_mode)
        if not is_link:
            return path
        path = os.path.realpath(path, strict=True)
    except FileNotFoundError:
        if not os.path.isdir(root):  # noqa: PTH112 - stays text
            raise OSError(errno.ESTALE, "the directory of models is gone") from None
        raise
    if os.path.commonpath((root, path)) != root:
        raise OSError(errno.ENOENT, "outside of the directory")
    return path

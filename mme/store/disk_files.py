"""How the disk tier lies on disk: `models/DIGEST` and `models/DIGEST.json`, `incoming/`, a lock.

An artifact appears by one rename, its json by one before it; it goes by one into `incoming/`.
What it appears from is made ahead where possible, empty, in `ahead/`: to make a directory and a
file takes ext4 as long as to write a small model. At start everything else of ours is debris;
`open` looks into `incoming/` and `ahead/` only, so that a start costs the same whatever lies there.
Decision: nothing is synced while serving; after a power cut an artifact whose sizes don't add up is
debris too. Only names that we make are ever removed: a `cache_dir` set to some directory in use
loses nothing; one deleted under us is made anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import sys
import time
import uuid
from collections import deque
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import msgspec

from mme.domain import ArtifactVersion, ModelKey
from mme.errors import ConfigError
from mme.store.unpack import DIRECTORY_BYTES, whole_blocks

_DIGEST = re.compile(r"[0-9a-f]{64}")
_STOCK_LOW, _STOCKED = 4, 16
_FREE_INODES = 128  # left on the file system for everything else
_INCOMING = re.compile(r"[0-9a-f]{32}(\.json)?")


@dataclass(frozen=True, slots=True)
class Stored:
    """An artifact on disk as its json tells it."""

    version: ArtifactVersion
    unpacked_bytes: int


class _Note(msgspec.Struct, frozen=True):
    location: str
    key: str
    etag: str
    size_bytes: int
    unpacked_bytes: int


class DiskFiles:
    """The files under `cache_dir`. `open` and `close` block; the rest are single system calls."""

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._models = cache_dir / "models"
        self._incoming = cache_dir / "incoming"
        self._ahead = cache_dir / "ahead"
        self._stock: deque[Path] = deque()
        self._lock = -1
        self._tells_inodes = False

    def open(self) -> list[Path]:
        """Locks the directory. Returns what an earlier run did not finish.

        Raises:
            ConfigError: it is another server's, or can't be used.
        """
        try:
            self._make()
            self._take_lock()
            left = chain(self._incoming.iterdir(), self._ahead.iterdir())
            return [path for path in left if _INCOMING.fullmatch(path.name)]
        except OSError as error:
            self.close()
            raise ConfigError(
                f"cache_dir: {self._cache_dir} can't be used: {error.strerror}"
            ) from error

    def close(self) -> None:
        """Lets another server have it."""
        if self._lock >= 0:
            while self._stock:
                self.give_up(self._stock.popleft())
            os.close(self._lock)
            self._lock = -1

    def mend(self) -> bool:
        """Makes anew what was deleted under us. Returns whether anything was.

        Raises:
            ConfigError: another server has taken the place.
            OSError: it can't be made.
        """
        locked = self._is_locked()
        if locked and all(map(os.path.isdir, (self._models, self._incoming, self._ahead))):
            return False
        self._make()
        if not locked:
            former, self._lock = self._lock, -1
            try:
                self._take_lock()
            finally:
                if self._lock < 0:
                    self._lock = former
                else:
                    os.close(former)
        return True

    def digests(self) -> set[str]:
        """What lies there, unread: artifacts, and what is left of some."""
        try:
            names = os.listdir(self._models)  # noqa: PTH208 - names are all that is needed
        except OSError:  # deleted under us
            return set()
        digests = {name.removesuffix(".json") for name in names}
        return {name for name in digests if _DIGEST.fullmatch(name)}

    def incoming(self) -> Path:
        """A path for an extraction; nothing is there yet, or an empty directory and json."""
        try:
            return self._stock.popleft()
        except IndexError:
            return self._incoming / uuid.uuid4().hex

    @property
    def is_low(self) -> bool:
        """Whether it is time to `stock`."""
        return len(self._stock) < _STOCK_LOW

    def give_up(self, incoming: Path) -> None:
        """Removes what lay at a path of `incoming` before its extraction began."""
        with contextlib.suppress(OSError):  # in use, or not there
            incoming.rmdir()
        with contextlib.suppress(OSError):
            note_beside(incoming).unlink()

    def stock(self) -> None:
        """Makes directories ahead, with a json each; takes a while."""
        with contextlib.suppress(OSError):  # who needs one makes it, and learns of it
            while len(self._stock) < _STOCKED and self._lock >= 0:
                self._stock.append(self._make_ahead())

    def _make_ahead(self) -> Path:
        path = self._ahead / uuid.uuid4().hex
        path.mkdir()
        try:
            note_beside(path).touch()
        except OSError:
            path.rmdir()
            raise
        return path

    def artifact(self, version: ArtifactVersion) -> Path:
        """Where `version` lies, or will."""
        return self._models / version.digest

    def has(self, version: ArtifactVersion) -> bool:
        """Whether it still is there: operators delete caches."""
        return os.path.isdir(f"{self._models}/{version.digest}")  # noqa: PTH112 - for each lease

    def note(self, incoming: Path, stored: Stored) -> None:
        """Writes the json of what is to be published. Raises OSError."""
        version = stored.version
        note = _Note(
            version.location, version.key, version.etag, version.size_bytes, stored.unpacked_bytes
        )
        path = f"{incoming}.json"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, msgspec.json.encode(note))
        finally:
            os.close(descriptor)

    def publish(self, incoming: Path, version: ArtifactVersion) -> None:
        """Makes an extracted directory with its json an artifact; or OSError, and it stays."""
        try:
            os.rename(f"{incoming}.json", f"{self._models}/{version.digest}.json")  # noqa: PTH104 - stays text
            os.rename(incoming, f"{self._models}/{version.digest}")  # noqa: PTH104 - stays text
        except OSError:
            with contextlib.suppress(OSError):
                self._note(version.digest).unlink()
            raise

    def withdraw(self, digest: str) -> Path:
        """Takes an artifact out in one step. Returns where it waits for its removal."""
        path = self._incoming / uuid.uuid4().hex
        with contextlib.suppress(OSError):  # gone already, or the disk fails: the next start sweeps
            (self._models / digest).rename(path)
        with contextlib.suppress(OSError):
            self._note(digest).unlink()
        return path

    def touch(self, version: ArtifactVersion) -> None:
        """Notes the use, so that the order outlives a restart."""
        with contextlib.suppress(OSError):
            now = time.time_ns()  # finer than what the kernel would set
            os.utime(f"{self._models}/{version.digest}.json", ns=(now, now))

    def read_ahead(self, version: ArtifactVersion) -> None:
        """Has the kernel begin to read what lies there; waits for none of it."""
        with contextlib.suppress(OSError):  # it has gone, or has no such thing
            for directory, _, names in os.walk(self.artifact(version)):
                for name in names:
                    _read_ahead(os.path.join(directory, name))  # noqa: PTH118 - stays text

    def used_at(self, digest: str) -> int:
        """When it was used last, in nanoseconds since the epoch; 0: it is gone."""
        try:
            return self._note(digest).stat().st_mtime_ns
        except OSError:
            return 0

    def read(self, digest: str) -> Stored | None:
        """The artifact `digest` where it is whole. Reads all of its directory, but no content."""
        try:
            note = msgspec.json.decode(self._note(digest).read_bytes(), type=_Note)
            measured_bytes = _measure(f"{self._models}/{digest}")
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        version = ArtifactVersion(
            location=sys.intern(note.location),
            key=ModelKey(note.key),
            etag=note.etag,
            size_bytes=note.size_bytes,
        )
        whole = version.digest == digest and measured_bytes == note.unpacked_bytes
        return Stored(version, note.unpacked_bytes) if whole else None

    def free_bytes(self) -> int:
        """What the file system still takes: nothing, when it can take hardly any more files."""
        status = os.statvfs(self._cache_dir)
        self._tells_inodes |= status.f_favail >= _FREE_INODES  # some never do
        if self._tells_inodes and status.f_favail < _FREE_INODES:
            return 0
        return status.f_bavail * status.f_frsize

    def _note(self, digest: str) -> Path:
        return self._models / f"{digest}.json"

    def _make(self) -> None:
        for directory in (self._models, self._incoming, self._ahead):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _is_locked(self) -> bool:
        """Whether the lock that we hold is the one that others see."""
        try:
            seen = os.stat(f"{self._cache_dir}/lock")  # noqa: PTH116 - for each fetch
        except FileNotFoundError:
            return False
        return os.path.samestat(os.fstat(self._lock), seen)

    def _take_lock(self) -> None:
        self._lock = os.open(self._cache_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise ConfigError(
                f"cache_dir: {self._cache_dir} is in use by another server; give each its own"
            ) from error


def _measure(directory: str) -> int:
    """The bytes on disk, counted as `unpack` does. Raises OSError."""
    total_bytes = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total_bytes += DIRECTORY_BYTES + _measure(entry.path)
            else:
                total_bytes += whole_blocks(entry.stat(follow_symlinks=False).st_size)
    return total_bytes


def _read_ahead(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
    finally:
        os.close(descriptor)


def note_beside(incoming: Path) -> Path:
    """Where the json of an extraction waits."""
    return Path(f"{incoming}.json")


def remove(path: Path) -> None:
    """Removes a directory, or what stands in its place; what can't be stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()

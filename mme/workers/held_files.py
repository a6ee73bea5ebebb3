"""Files that a group of processes holds and that no look into its directory finds.

Those are deleted ones, open or mapped, and those in `/dev/shm`, which all workers have in common,
that it may write.
Only what lies on the file systems where a worker may write counts: memory that processes share
without a file (memfd) does not. A mapped file that is not open any more can be looked at
by root alone; else it counts by as much of it as is mapped.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

SHARED: Final = "/dev/shm"  # noqa: S108 - not a temporary file of ours
_MAPPED = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ ([0-9a-f]+):([0-9a-f]+) ([0-9]+) +"
    rb"(?:/dev/shm/([^/\n]+)|.* \(deleted\))$",
    re.MULTILINE,
)
_ENDED = b"ZX"  # states
Key: TypeAlias = tuple[int, int]  # device and inode


class Held(NamedTuple):
    """One file; it may come several times."""

    key: Key
    bytes: int  # on disk
    user: int = -1  # whose; -1: not known
    shared_name: str = ""  # in `/dev/shm`; "": it was deleted


class Hidden(Exception):
    """A process does not let anybody see what it holds."""


def held_files(group: int, devices: Collection[int]) -> Iterator[Held]:
    """What the group's processes hold on these devices, as far as its directory does not show it.

    Raises:
        Hidden: a process lets nobody see.
    """
    for pid in _members(group):
        try:
            yield from _open_files(pid, devices)
            yield from _mapped_files(pid, devices)
        except PermissionError as error:
            if not _has_ended(pid):
                raise Hidden from error
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended


def shared_file(name: str) -> Held | None:
    """A file in `/dev/shm` by its name; None: there is none."""
    with contextlib.suppress(OSError):
        found = os.lstat(f"{SHARED}/{name}")
        if stat.S_ISREG(found.st_mode):
            return _held(found, name)
    return None


def _members(group: int) -> Iterator[int]:
    for name in os.listdir("/proc"):  # noqa: PTH208 - thousands, in each look
        if name.isdigit():
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(int(name)) == group:
                    yield int(name)


def _open_files(pid: int, devices: Collection[int]) -> Iterator[Held]:
    directory = f"/proc/{pid}/fd"
    for name in os.listdir(directory):  # noqa: PTH208 - as above
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found = os.stat(f"{directory}/{name}")  # noqa: PTH116 - as above
            if not stat.S_ISREG(found.st_mode) or found.st_dev not in devices:
                continue
            if not found.st_nlink:
                yield _held(found)
            elif os.lstat(f"{directory}/{name}").st_mode & stat.S_IWUSR:  # open to write
                place = os.readlink(f"{directory}/{name}")  # noqa: PTH115 - as above
                parent, _, name_there = place.rpartition("/")
                if parent == SHARED:
                    yield _held(found, name_there)


def _mapped_files(pid: int, devices: Collection[int]) -> Iterator[Held]:
    maps = Path(f"/proc/{pid}/maps").read_bytes()
    for first, last, allowed, major, minor, inode, name in _MAPPED.findall(maps):
        key = os.makedev(int(major, 16), int(minor, 16)), int(inode)
        if key[0] not in devices:
            continue
        shared = shared_file(os.fsdecode(name)) if name else None
        if shared is None or shared.key != key:
            yield _mapped_file(pid, key, first.lstrip(b"0"), last.lstrip(b"0"))
        elif allowed[1:2] == b"w" and allowed[3:4] == b"s":
            yield shared


def _mapped_file(pid: int, key: Key, first: bytes, last: bytes) -> Held:
    with contextlib.suppress(OSError):  # who may not, or it is mapped no more
        return _held(Path(f"/proc/{pid}/map_files/{first.decode()}-{last.decode()}").stat())
    return Held(key, int(last, 16) - int(first, 16))


def _held(found: os.stat_result, shared_name: str = "") -> Held:
    key = found.st_dev, found.st_ino
    return Held(key, found.st_blocks * 512, found.st_uid, shared_name)


def _has_ended(pid: int) -> bool:
    with contextlib.suppress(OSError):
        told = Path(f"/proc/{pid}/stat").read_bytes()
        return told.rpartition(b") ")[2][:1] in _ENDED
    return True

"""A directory that hostile code writes to meanwhile: looked through, and removed.

Each directory is opened from the one it is in, and no link is followed, so that nothing leads
outside whatever is renamed at that moment. Who made a directory may have made it unreadable; it is
opened to its owner then. Depth costs no stack and, in removing, no descriptors: what lies deep is
moved up. `shutil.rmtree` has neither, and ends in a RecursionError after a thousand directories.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

_DEPTH_LIMIT = 64
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK
_FIND = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # removed, or something else by now
_OWNERS = 0o700


class TooDeep(Exception):
    """There are too many directories in each other."""


def walk(directory: Path) -> Iterator[os.stat_result]:
    """Everything below it, if it is there, that stays meanwhile; of links, the links themselves.

    Raises:
        TooDeep: there are more than 64 directories in each other.
        OSError: it can't be read, though not because something has just gone.
    """
    levels: list[tuple[int, list[str]]] = []
    try:
        opened: int | None = None
        with _unless_gone():
            opened = _open(str(directory), None)
        while opened is not None:
            below: list[str] = []
            levels.append((opened, below))
            if len(levels) > _DEPTH_LIMIT:
                raise TooDeep
            yield from _list(opened, below)
            opened = _next(levels)
    finally:
        for descriptor, _ in levels:
            os.close(descriptor)


def remove(directory: Path) -> None:
    """Removes it with all that is in it, as far as that can be."""
    with contextlib.suppress(OSError):
        top = _open_own(str(directory), None)
        try:
            while _flatten(top):
                pass
        finally:
            os.close(top)
        directory.rmdir()


def _list(directory: int, below: list[str]) -> Iterator[os.stat_result]:
    with os.scandir(directory) as entries:
        for entry in entries:
            with _unless_gone():
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    below.append(entry.name)
                yield found


def _next(levels: list[tuple[int, list[str]]]) -> int | None:
    while levels:
        parent, names = levels[-1]
        while names:
            with _unless_gone():
                return _open(names.pop(), parent)
        levels.pop()
        os.close(parent)
    return None


def _flatten(top: int) -> bool:
    """Removes all but the directories in directories of `top`, which move up; are there any?"""
    has_more = False
    for name in os.listdir(top):
        with _unless_gone():
            if not _unlink(name, top):
                has_more |= _empty(name, top)
                os.rmdir(name, dir_fd=top)
    return has_more


def _empty(name: str, top: int) -> bool:
    """Moves the directories in a directory up, and removes all else; were there any?"""
    has_any = False
    middle = _open_own(name, top)
    try:
        for each in os.listdir(middle):  # noqa: PTH208 - a descriptor
            with _unless_gone():
                if not _unlink(each, middle):
                    os.close(_open_own(each, middle))
                    os.rename(each, uuid.uuid4().hex, src_dir_fd=middle, dst_dir_fd=top)
                    has_any = True
    finally:
        os.close(middle)
    return has_any


def _unlink(name: str, directory: int) -> bool:
    """Whether it was no directory."""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        return False
    return True


def _open_own(name: str, parent: int | None) -> int:
    opened = _open(name, parent)
    with contextlib.suppress(OSError):  # another's: root may all the same
        os.fchmod(opened, _OWNERS)
    return opened


def _open(name: str, parent: int | None) -> int:
    try:
        return os.open(name, _OPEN | os.O_NOFOLLOW, dir_fd=parent)
    except PermissionError:
        found = os.open(name, _FIND, dir_fd=parent)
        try:
            this = f"/proc/self/fd/{found}"
            os.chmod(this, _OWNERS)  # noqa: PTH101 - what is open, whatever its name is now
            return os.open(this, _OPEN)
        finally:
            os.close(found)


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _GONE:
            raise

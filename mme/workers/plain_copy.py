"""Copies directories that somebody else may have made: plain files and directories, nothing else.

No link is followed and none is made; only what its owner may do with a file is looked at, and of
that only whether it is a program. Times stay: by them Python tells whether its bytecode is stale.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Collection
from pathlib import Path

_DEPTH_LIMIT = 64
_CHUNK_BYTES = 1 << 20


class NotPlain(Exception):
    """There is something in it that is not copied."""


def copy_plainly(
    source: Path,
    target: Path,
    user: tuple[int, int] | None = None,
    only: Collection[Path] | None = None,
) -> None:
    """Makes `target` with all that is in `source`. Blocking.

    Args:
        source: may change meanwhile.
        target: must not be there.
        user: whose it is to be; None: ours.
        only: files, relative to both, and no others; None: all.

    Raises:
        NotPlain: there is a link, a device, or the like; or it is too deep.
        OSError: it can't be read or written.
    """
    if not stat.S_ISDIR(source.lstat().st_mode):
        raise NotPlain(f"{source.name} is no directory")
    for place, directories, names, descriptor in os.fwalk(source):
        within = Path(place).relative_to(source)
        if len(within.parts) > _DEPTH_LIMIT:
            raise NotPlain(f"it has more than {_DEPTH_LIMIT} directories in each other")
        for name in (*directories, *names):
            _check(within / name, os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode)
        made = target / within
        made.mkdir()
        _give(made, user)
        for name in names if only is None else [each for each in names if within / each in only]:
            _copy(name, descriptor, made / name)
            _give(made / name, user)


def _check(path: Path, mode: int) -> None:
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise NotPlain(f"{path} is neither a file nor a directory")


def _copy(name: str, directory: int, target: Path) -> None:
    reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    with os.fdopen(reading, "rb") as source:
        found = os.fstat(reading)
        _check(target, found.st_mode)
        mode = 0o777 if found.st_mode & stat.S_IXUSR else 0o666
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(writing, "wb") as copy:
            shutil.copyfileobj(source, copy, _CHUNK_BYTES)
        os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _give(path: Path, user: tuple[int, int] | None) -> None:
    if user is not None:
        os.chown(path, *user)

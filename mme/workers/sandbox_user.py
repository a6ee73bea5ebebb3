"""Whose rights a worker has: a user of its own where the server is root, and no capabilities.

Decision: by default `nobody`, where that user can reach Python and the workers' directories; a
server whose cache lies in root's home keeps its workers as root, without capabilities, and says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import stat
import struct
import sys
import tempfile
from pathlib import Path

from mme.errors import ConfigError

_SET_DUMPABLE, _DROP_BOUNDING, _AMBIENT, _CLEAR_ALL = 4, 24, 47, 4  # prctl
_CAPABILITIES = 64  # more than there are
_CAPSET_VERSION = 0x20080522
_DEFAULT = "nobody"


def choose_user(wanted: str, directory: Path | None) -> tuple[tuple[int, int] | None, str | None]:
    """Uid and gid for workers, or None and, where the server is root, the reason.

    Args:
        wanted: `auto`, `same`, or a user's name or number.
        directory: that the workers' directories are in; None: the system's for temporary ones.

    Raises:
        ConfigError: no such user, or the server may not change to another.
    """
    is_root = os.geteuid() == 0
    if wanted == "same" or (wanted == "auto" and not is_root):
        return None, "it was not wanted" if is_root else None
    if not is_root:
        raise ConfigError("worker_user: only a server that is root can give workers another user")
    try:
        entry = pwd.getpwuid(int(wanted)) if wanted.isdecimal() else pwd.getpwnam(_name(wanted))
        user = entry.pw_uid, entry.pw_gid
    except KeyError:
        if wanted == "auto":
            return None, f"there is no user {_DEFAULT}"
        if not wanted.isdecimal():
            raise ConfigError(f"worker_user: there is no user {wanted!r}") from None
        user = int(wanted), int(wanted)
    closed = _closed(directory or Path(tempfile.gettempdir()))
    if closed is None:
        return user, None
    if wanted == "auto":
        return None, f"{closed} is closed to others"
    raise ConfigError(f"worker_user: {closed} is closed to others")


def become(uid: int, gid: int) -> None:
    """Takes another user's rights, for good. Raises OSError."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _prctl(_SET_DUMPABLE, 1)  # what lies in /proc/self is its own again


def hide_memory() -> None:
    """Closes this process's memory and environment to others of its user. Raises OSError."""
    _prctl(_SET_DUMPABLE, 0)


def drop_capabilities() -> None:
    """Gives up what root may do beyond its own files. Raises OSError."""
    with contextlib.suppress(OSError):  # the last one is past, or there are none to drop
        for number in range(_CAPABILITIES):
            _prctl(_DROP_BOUNDING, number)
    _prctl(_AMBIENT, _CLEAR_ALL)
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPSET_VERSION, 0))
    _check(_libc.capset(header, ctypes.create_string_buffer(24)))


def _name(wanted: str) -> str:
    return _DEFAULT if wanted == "auto" else wanted


def _closed(directory: Path) -> Path | None:
    """The first directory on the way that others may not pass."""
    for place in (directory, Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parent):
        resolved = place.resolve()
        for path in (resolved, *resolved.parents):
            if path.exists() and not path.stat().st_mode & stat.S_IXOTH:
                return path
    return None


_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(what: int, value: int) -> None:
    _check(_libc.prctl(what, *(ctypes.c_ulong(item) for item in (value, 0, 0, 0))))


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

"""Landlock: from now on this process, and what it starts, reaches only the files that rules name.

See landlock(7). A rule holds for a file, or for a directory and all below it. What an older kernel
does not know is left out; what is open already stays open. Within it come, where the kernel has
them: no debugging of, no signals to, and no abstract sockets of processes outside.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_PATH_BENEATH = 1
_ASK_VERSION = 1
_SET_NO_NEW_PRIVS = 38  # prctl

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_FILE, MAKE_REG, TRUNCATE = 1 << 5, 1 << 8, 1 << 14
_KNOWN = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}  # by version; then all of 3
_OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
_TCP = 0b11  # to bind and to connect, from version 4
_SCOPES = 0b11  # abstract sockets and signals, from version 6
_TCP_VERSION, _SCOPES_VERSION = 4, 6

READ = READ_FILE | READ_DIR
RUN = READ | EXECUTE
ALL_BUT_RUN = _KNOWN[3] & ~EXECUTE


class _Ruleset(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("files", "network", "scopes")]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


@dataclass(frozen=True, slots=True)
class Rule:
    """What may be done with a file, or below a directory."""

    path: Path
    allowed: int


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def restrict_files(rules: Iterable[Rule], *, network: bool) -> None:
    """Holds this thread and whatever it starts. Raises OSError where the kernel can't.

    Args:
        rules: paths that are not there are left out.
        network: False: no TCP either, where the kernel knows that.
    """
    version = kernel_version()
    known = _KNOWN.get(version, _KNOWN[3])
    asked = _Ruleset(
        files=known,
        network=_TCP if version >= _TCP_VERSION and not network else 0,
        scopes=_SCOPES if version >= _SCOPES_VERSION else 0,
    )
    size = 8 if version < _TCP_VERSION else 16 if version < _SCOPES_VERSION else 24
    ruleset = _call(_CREATE_RULESET, ctypes.byref(asked), size, 0)
    try:
        for rule in rules:
            _add(ruleset, rule, known)
        forbid_new_privileges()
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def kernel_version() -> int:
    """Which Landlock the kernel has. Raises OSError where it has none, or has it switched off."""
    return _call(_CREATE_RULESET, None, 0, _ASK_VERSION)


def forbid_new_privileges() -> None:
    """No program started from here gains any by its file."""
    if _libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _last_error()


def _add(ruleset: int, rule: Rule, known: int) -> None:
    try:
        descriptor = os.open(rule.path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # not there, or closed to it anyway
    try:
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        allowed = rule.allowed & known & (~0 if is_directory else _OF_A_FILE)
        beneath = _PathBeneath(allowed, descriptor)
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(beneath), 0)
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(
        ctypes.c_long(number),
        *(ctypes.c_long(item) if isinstance(item, int) else item for item in arguments),
    )
    if result < 0:
        raise _last_error()
    return result


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))

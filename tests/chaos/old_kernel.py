"""An older kernel: runs a command for which one system call does not exist.

`python old_kernel.py NUMBER COMMAND...`; by a seccomp filter, which all that the command starts
inherits.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

LANDLOCK = 444  # landlock_create_ruleset, on every architecture
SECCOMP = {"x86_64": 317, "aarch64": 277}
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2


def within(call: int) -> list[str]:
    """What a command is appended to."""
    return [sys.executable, __file__, str(call)]


def forget(call: int) -> None:
    """From now on `call` is answered as by a kernel that does not know it."""
    program = [
        (_LOAD, 0, 0, 0),
        (_EQUAL, 0, 1, call),
        (_RETURN, 0, 0, _ERROR | errno.ENOSYS),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = b"".join(struct.pack("=HBBI", *each) for each in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    told = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_NO_NEW_PRIVS, 1, 0, 0, 0), (_SET_SECCOMP, _FILTER, told)):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "no filter")


if __name__ == "__main__":
    forget(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - a test's own command

"""seccomp: which system calls a worker may not make, as a filter written by hand.

Decision: a short list of what is refused, not a long one of what is allowed; frameworks use calls
that no list foresees. Refused: sockets, unless the network is allowed; what debugs or changes other
processes; what loads into the kernel, mounts, or makes namespaces. Some are not refused but do
nothing: who leaves its process group would not end with its worker; and modes, owners, times and
attributes of files, which Landlock leaves to whoever has the files' user, mostly the server's, stay
as they are. Libraries set them on files of their own, and expect no error.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from mme.workers.sandbox_landlock import forbid_new_privileges

_REFUSED = {
    "x86_64": (
        101, 310, 311, 312, 438,  # ptrace, process_vm_readv/writev, kcmp, pidfd_getfd
        321, 298, 323, 425,  # bpf, perf_event_open, userfaultfd, io_uring_setup
        248, 249, 250,  # add_key, request_key, keyctl
        # mount and its newer kin, chroot
        165, 166, 155, 161, 428, 429, 430, 431, 432, 433, 442, 467,
        272, 308, 304,  # unshare, setns, open_by_handle_at
        175, 313, 176, 246, 320, 169, 167, 168,  # modules, kexec, reboot, swap
    ),
    "aarch64": (
        117, 270, 271, 272, 438,
        280, 241, 282, 425,
        217, 218, 219,
        40, 39, 41, 51, 428, 429, 430, 431, 432, 433, 442, 467,
        97, 268, 265,
        105, 273, 106, 104, 294, 142, 224, 225,
    ),
}  # fmt: skip
_IGNORED = {
    "x86_64": (
        112, 109,  # setsid, setpgid
        90, 91, 268, 452, 92, 93, 94, 260,  # chmod, fchmod, fchmodat, fchmodat2; chown and its kin
        132, 235, 261, 280,  # utime, utimes, futimesat, utimensat
        188, 189, 190, 463, 197, 198, 199, 466,  # setxattr and removexattr with their kin
        469,  # file_setattr
    ),
    "aarch64": (
        157, 154,
        52, 53, 452, 54, 55,
        88,
        5, 6, 7, 463, 14, 15, 16, 466,
        469,
    ),
}  # fmt: skip
_Numbers = tuple[int, int, int, int]
_ARCHITECTURES: dict[str, tuple[int, _Numbers]] = {
    # audit's number; then seccomp, socket, prlimit64, clone
    "x86_64": (0xC000003E, (317, 41, 302, 56)),
    "aarch64": (0xC00000B7, (277, 198, 261, 220)),
}
_CLONE3 = 435  # its flags are out of a filter's sight: libc falls back to clone
_NEW_USER_NAMESPACE = 0x10000000
_OTHER_ABI = 0x40000000  # x32: the same calls under other numbers
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_SET_FILTER, _KEEP_SPECULATION = 1, 4

Instruction = tuple[int, int, int, int]


def restrict_calls(*, network: bool) -> None:
    """Holds this thread and whatever it starts. Raises OSError where the kernel can't."""
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no filter for {machine}")
    forbid_new_privileges()
    code = b"".join(struct.pack("=HBBI", *item) for item in program(machine, network=network))
    buffer = ctypes.create_string_buffer(code, len(code))
    length, pointer = len(code) // 8, ctypes.addressof(buffer)
    described = ctypes.create_string_buffer(struct.pack("@HP", length, pointer))
    libc = ctypes.CDLL(None, use_errno=True)
    call = ctypes.c_long(_ARCHITECTURES[machine][1][0])
    if libc.syscall(call, _SET_FILTER, _KEEP_SPECULATION, described):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def program(machine: str, *, network: bool) -> list[Instruction]:
    """The filter for one architecture."""
    audit, (_, socket, prlimit, clone) = _ARCHITECTURES[machine]
    refused = _REFUSED[machine] if network else (*_REFUSED[machine], socket)
    return [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, audit),
        _error(errno.EPERM),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _OTHER_ABI),
        _error(errno.EPERM),
        *_when(refused, _error(errno.EPERM)),
        *_when((_CLONE3,), _error(errno.ENOSYS)),
        *_when(_IGNORED[machine], _error(0)),
        *_with_argument(clone, (_ANY_BIT, 0, 1, _NEW_USER_NAMESPACE)),
        *_with_argument(prlimit, (_EQUAL, 1, 0, 0)),  # of itself alone
        (_RETURN, 0, 0, _ALLOW),
    ]


def _error(number: int) -> Instruction:
    return _RETURN, 0, 0, _ERROR | number


def _when(numbers: tuple[int, ...], then: Instruction) -> list[Instruction]:
    """`then`, for the calls with these numbers."""
    left = len(numbers)
    tests = [(_EQUAL, left - place - 1, 0, number) for place, number in enumerate(numbers)]
    code, _, _, last = tests[-1]
    return [*tests[:-1], (code, 0, 1, last), then]


def _with_argument(number: int, test: Instruction) -> list[Instruction]:
    """Refuses a call whose first argument passes `test`; allows it otherwise."""
    return [
        (_EQUAL, 0, 4, number),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        test,
        _error(errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]

"""seccomp: which system calls a worker may not make, as a filter written by hand.

Decision: a short list of what is refused, not a long one of what is allowed; frameworks use calls
that no list foresees. Refused: sockets, unless the network is allowed; what debugs or changes other
processes; what loads into the kernel, mounts, makes namespaces, or tells of what others do with
files; and what stays in memory, for anybody of the same user, when its process has ended. Some are
not refused but do nothing: who leaves its process group would not end with its worker; modes,
owners, times and attributes of files, which Landlock leaves to whoever has the files' user, mostly
the server's, stay as they are; and so do the cores and priorities of all but the calling thread.
Libraries set these of their own files and threads, and expect no error. Who builds packages may
make a file a program, its owner's alone: that takes nothing from whoever has the file's user. And
no thread has files of its own, beside those of its process: the server looks at these.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from itertools import chain

from mme.workers.sandbox_landlock import forbid_new_privileges

_REFUSED = {
    "x86_64": (
        101, 310, 311, 312, 438,  # ptrace, process_vm_readv/writev, kcmp, pidfd_getfd
        253, 294, 300,  # inotify_init, inotify_init1, fanotify_init
        321, 298, 323, 425,  # bpf, perf_event_open, userfaultfd, io_uring_setup
        248, 249, 250,  # add_key, request_key, keyctl
        # mount and its newer kin, chroot
        165, 166, 155, 161, 428, 429, 430, 431, 432, 433, 442, 467,
        272, 308, 304,  # unshare, setns, open_by_handle_at
        175, 313, 176, 246, 320, 169, 167, 168,  # modules, kexec, reboot, swap
        # shared memory, semaphores and message queues that outlive who made them (System V; mq_*)
        29, 30, 31, 67, 64, 65, 66, 220, 68, 69, 70, 71, 240, 241,
    ),
    "aarch64": (
        117, 270, 271, 272, 438,
        26, 262,
        280, 241, 282, 425,
        217, 218, 219,
        40, 39, 41, 51, 428, 429, 430, 431, 432, 433, 442, 467,
        97, 268, 265,
        105, 273, 106, 104, 294, 142, 224, 225,
        194, 196, 195, 197, 190, 193, 191, 192, 186, 189, 188, 187, 180, 181,
    ),
}  # fmt: skip
_IGNORED = {
    "x86_64": (
        112, 109,  # setsid, setpgid
        90, 91, 268, 452, 92, 93, 94, 260,  # chmod, fchmod, fchmodat, fchmodat2; chown and its kin
        132, 235, 261, 280,  # utime, utimes, futimesat, utimensat
        188, 189, 190, 463, 197, 198, 199, 466,  # setxattr and removexattr with their kin
        469,  # file_setattr
        251,  # ioprio_set
    ),
    "aarch64": (
        157, 154,
        52, 53, 452, 54, 55,
        88,
        5, 6, 7, 463, 14, 15, 16, 466,
        469,
        30,
    ),
}  # fmt: skip
_MODES = {  # calls that set a file's mode, and the offset of it in struct seccomp_data
    "x86_64": ((90, 24), (91, 24), (268, 32), (452, 32)),
    "aarch64": ((52, 24), (53, 32), (452, 32)),
}
_PROGRAM, _NO_PROGRAM = 0o700, 0o7066  # bits that it has, and that it has not
_OF_ITSELF = {  # else they do nothing
    # sched_setaffinity, sched_setscheduler, sched_setparam, sched_setattr
    "x86_64": (203, 144, 142, 314),
    "aarch64": (122, 119, 118, 274),
}
_THREAD, _SHARES_FILES = 0x10000, 0x400  # flags of clone
_CLOSE_RANGE, _OWN_FILES = 436, 2  # the same on every architecture; a flag of it
_Numbers = tuple[int, int, int, int, int]
_ARCHITECTURES: dict[str, tuple[int, _Numbers]] = {
    # audit's number; then seccomp, socket, prlimit64, clone, setpriority
    "x86_64": (0xC000003E, (317, 41, 302, 56, 141)),
    "aarch64": (0xC00000B7, (277, 198, 261, 220, 140)),
}
_ANOTHER = 0xFFFFFFFF  # bits of a process's number: 0 is the caller's own
_CLONE3 = 435  # its flags are out of a filter's sight: libc falls back to clone
_NEW_USER_NAMESPACE = 0x10000000
_OTHER_ABI = 0x40000000  # x32: the same calls under other numbers
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND, _THIRD = 0, 4, 16, 24, 32  # in struct seccomp_data
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_SET_FILTER, _KEEP_SPECULATION = 1, 4

Instruction = tuple[int, int, int, int]


def restrict_calls(*, network: bool, runs_own: bool = False) -> None:
    """Holds this thread and whatever it starts. Raises OSError where the kernel can't.

    Args:
        network: it may open sockets.
        runs_own: it may make files programs.
    """
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no filter for {machine}")
    forbid_new_privileges()
    instructions = program(machine, network=network, runs_own=runs_own)
    code = b"".join(struct.pack("=HBBI", *item) for item in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    length, pointer = len(code) // 8, ctypes.addressof(buffer)
    described = ctypes.create_string_buffer(struct.pack("@HP", length, pointer))
    libc = ctypes.CDLL(None, use_errno=True)
    call = ctypes.c_long(_ARCHITECTURES[machine][1][0])
    if libc.syscall(call, _SET_FILTER, _KEEP_SPECULATION, described):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def program(machine: str, *, network: bool, runs_own: bool = False) -> list[Instruction]:
    """The filter for one architecture."""
    audit, (_, socket, prlimit, clone, setpriority) = _ARCHITECTURES[machine]
    refused = _REFUSED[machine] if network else (*_REFUSED[machine], socket)
    modes = _MODES[machine] if runs_own else ()
    return [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, audit),
        _error(errno.EPERM),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _OTHER_ABI),
        _error(errno.EPERM),
        *_when(refused, _error(errno.EPERM)),
        *_when((_CLONE3,), _error(errno.ENOSYS)),
        *(each for number, offset in modes for each in _when_program(number, offset)),
        *_when(_IGNORED[machine], _error(0)),
        *_when_alone(clone),
        *_where(_CLOSE_RANGE, _error(errno.EPERM), (_THIRD, _OWN_FILES)),
        *_where(prlimit, _error(errno.EPERM), (_FIRST, _ANOTHER)),
        *_where(setpriority, _error(0), (_FIRST, _ANOTHER), (_SECOND, _ANOTHER)),
        *chain.from_iterable(
            _where(number, _error(0), (_FIRST, _ANOTHER)) for number in _OF_ITSELF[machine]
        ),
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


def _where(number: int, then: Instruction, *bits: tuple[int, int]) -> list[Instruction]:
    """`then`, for a call that has any of these bits in the arguments at these offsets."""
    tests: list[Instruction] = []
    for left, (offset, mask) in zip(range(len(bits) - 1, -1, -1), bits, strict=True):
        tests += [(_LOAD, 0, 0, offset), (_ANY_BIT, 2 * left + 1, 0, mask)]
    return [(_EQUAL, 0, len(tests) + 2, number), *tests, (_RETURN, 0, 0, _ALLOW), then]


def _when_alone(clone: int) -> list[Instruction]:
    """Refuses a clone into a user namespace, or of a thread with files of its own."""
    return [
        (_EQUAL, 0, 6, clone),
        (_LOAD, 0, 0, _FIRST),
        (_ANY_BIT, 3, 0, _NEW_USER_NAMESPACE),
        (_AND, 0, 0, _THREAD | _SHARES_FILES),
        (_EQUAL, 1, 0, _THREAD),
        (_RETURN, 0, 0, _ALLOW),
        _error(errno.EPERM),
    ]


def _when_program(number: int, offset: int) -> list[Instruction]:
    """Allows a call, if the mode that it sets is that of a program; else it does nothing."""
    return [
        (_EQUAL, 0, 6, number),
        (_LOAD, 0, 0, offset),
        (_ANY_BIT, 3, 0, _NO_PROGRAM),
        (_AND, 0, 0, _PROGRAM),
        (_EQUAL, 0, 1, _PROGRAM),
        (_RETURN, 0, 0, _ALLOW),
        _error(0),
    ]

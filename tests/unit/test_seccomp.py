"""The filter of system calls, run as the kernel runs it, for every call of both architectures."""

from __future__ import annotations

import errno
import struct

import pytest

from mme.workers.sandbox_seccomp import program

REFUSED = {  # name: numbers on x86_64 and aarch64
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "pidfd_getfd": (438, 438), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "open_tree_attr": (467, 467),
    "unshare": (272, 97), "setns": (308, 268), "open_by_handle_at": (304, 265),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225),
    "inotify_init": (253, None), "inotify_init1": (294, 26), "fanotify_init": (300, 262),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "shmdt": (67, 197),
    "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192),
    "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "mq_open": (240, 180), "mq_unlink": (241, 181),
}  # fmt: skip
IGNORED = {
    "setsid": (112, 157), "setpgid": (109, 154),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "removexattrat": (466, 466), "file_setattr": (469, 469), "ioprio_set": (251, 30),
}  # fmt: skip
SOCKET, CLONE, CLONE3, PRLIMIT = (41, 198), (56, 220), 435, (302, 261)
CLOSE_RANGE = 436
OF_ITSELF = {
    "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274),
}  # fmt: skip
SETPRIORITY = (141, 140)
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOWED = -1
both = pytest.mark.parametrize("machine", MACHINES)


def answer(machine, number, *arguments, network=False, audit=None, runs_own=False):
    """ALLOWED, or the error that the call gets; 0: it succeeds and nothing is done."""
    given = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    seen = struct.pack("=iIQ6Q", number, audit or MACHINES[machine], 0, *given)
    instructions, at, value = program(machine, network=network, runs_own=runs_own), 0, 0
    while True:
        code, if_true, if_false, operand = instructions[at]
        at += 1
        match code:
            case 0x20:
                [value] = struct.unpack_from("=I", seen, operand)
            case 0x54:
                value &= operand
            case 0x06:
                return ALLOWED if operand == 0x7FFF0000 else operand - 0x00050000
            case 0x15 | 0x35 | 0x45:
                tests = {0x15: value == operand, 0x35: value >= operand, 0x45: value & operand}
                at += if_true if tests[code] else if_false


def numbers(table, machine):
    place = list(MACHINES).index(machine)
    return {both[place]: name for name, both in table.items() if both[place] is not None}


@both
@pytest.mark.parametrize("network", [True, False])
def test_what_is_refused_is_refused_what_does_nothing_succeeds_and_the_rest_is_allowed(
    machine, network
):
    place = list(MACHINES).index(machine)
    expected = dict.fromkeys(range(600), ALLOWED) | {CLONE3: errno.ENOSYS}
    expected |= dict.fromkeys(numbers(REFUSED, machine), errno.EPERM)
    expected |= dict.fromkeys(numbers(IGNORED, machine), 0)
    if not network:
        expected[SOCKET[place]] = errno.EPERM
    assert {number: answer(machine, number, network=network) for number in expected} == expected


@both
def test_a_clone_makes_no_user_namespace_and_limits_are_set_of_itself_alone(machine):
    place = list(MACHINES).index(machine)
    assert answer(machine, CLONE[place], 0x10000000 | 17) == errno.EPERM
    assert answer(machine, CLONE[place], 17) == ALLOWED
    assert answer(machine, CLONE[place], 0x10000 | 0x800) == errno.EPERM  # with files of its own
    assert answer(machine, CLONE[place], 0x10000 | 0x400) == ALLOWED
    assert answer(machine, CLOSE_RANGE, 3, 9, 2) == errno.EPERM
    assert answer(machine, CLOSE_RANGE, 3, 9, 4) == ALLOWED
    assert answer(machine, PRLIMIT[place], 4711) == errno.EPERM
    assert answer(machine, PRLIMIT[place], 0) == ALLOWED


@both
def test_cores_and_priorities_are_the_calling_threads_own_and_of_others_stay(machine):
    for number in numbers(OF_ITSELF, machine):
        assert answer(machine, number, 0) == ALLOWED
        assert answer(machine, number, 4711) == 0
    number = SETPRIORITY[list(MACHINES).index(machine)]
    assert answer(machine, number, 0, 0) == ALLOWED
    assert answer(machine, number, 0, 4711) == 0  # another process
    assert answer(machine, number, 1, 0) == 0  # a group
    assert answer(machine, number, 2, 0) == 0  # all of the user's


@both
def test_calls_under_the_numbers_of_another_architecture_are_refused(machine):
    [other] = set(MACHINES.values()) - {MACHINES[machine]}
    assert answer(machine, 0, audit=other) == errno.EPERM
    assert answer(machine, 0x40000000) == errno.EPERM


@both
@pytest.mark.parametrize("name", ["chmod", "fchmod", "fchmodat", "fchmodat2"])
def test_who_builds_may_make_a_file_a_program_of_its_owner_and_change_no_other_mode(machine, name):
    number = IGNORED[name][list(MACHINES).index(machine)]
    if number is None:
        return
    before = (3, 4) if name.startswith("fchmodat") else (3,)
    for mode in range(0o10000):
        makes_program = mode & 0o700 == 0o700 and not mode & 0o7066
        told = answer(machine, number, *before, 0o100000 | mode, runs_own=True)
        assert told == (ALLOWED if makes_program else 0)
        assert answer(machine, number, *before, mode) == 0


@both
def test_who_builds_gets_no_more_than_that(machine):
    modes = {IGNORED[name][list(MACHINES).index(machine)] for name in IGNORED if "chmod" in name}
    for number in {*range(600)} - modes:
        assert answer(machine, number, runs_own=True) == answer(machine, number)

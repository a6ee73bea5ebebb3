"""What a model's code can't do, tried by a model's code."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mme import Engine
from mme.errors import ConfigError
from mme.workers.process import WorkerStartError
from tests.chaos.landlock import needs_landlock
from tests.engines import drop, invocation, running_engine

pytestmark = [pytest.mark.timeout(60), needs_landlock]


SCRIPT = b"""
import ctypes, json, os, resource, shutil, socket, tarfile, tempfile, zipfile
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)


def syscall(number, *arguments):
    given = [each.encode() if isinstance(each, str) else each for each in arguments]
    return ctypes.get_errno() if libc.syscall(number, *given) < 0 else 0


def unpack():
    place = Path(tempfile.mkdtemp())
    Path(place, "x").write_text("x")
    shutil.copy(place / "x", place / "y")
    shutil.copy2(place / "x", place / "z")
    for _ in range(2):
        (place / "touched").touch()
    (place / "touched").rename(place / "moved")
    shutil.copytree(place, place.with_name("copied"))
    with zipfile.ZipFile(place / "a.zip", "w") as archive:
        archive.write(place / "x", "x")
    with zipfile.ZipFile(place / "a.zip") as archive:
        archive.extractall(place / "zip")
    with tarfile.open(place / "a.tar", "w") as archive:
        archive.add(place / "x", "x")
    with tarfile.open(place / "a.tar") as archive:
        archive.extractall(place / "tar", filter="data")
    return [(place / name / "x").read_text() for name in ("zip", "tar", "../copied")]


def libraries():
    import joblib, numpy, torch
    place = Path(tempfile.mkdtemp())
    joblib.dump(numpy.arange(3), place / "a.joblib")
    torch.save(torch.arange(3), place / "a.pt")
    return [
        joblib.load(place / "a.joblib", mmap_mode="r").tolist(),
        torch.load(place / "a.pt", mmap=True).tolist(),
    ]


def model_fn(model_dir):
    return Path(model_dir)


def attempt(name, *arguments):
    return {
        "own": lambda: (own / "secret").read_text(),
        "read": lambda path: Path(path).read_text(errors="replace"),
        "list": lambda path: len(os.listdir(path)),
        "write": lambda path: Path(path).write_text("x"),
        "temporary": lambda: Path(tempfile.mkdtemp(), "x").write_text("x"),
        "home": lambda: Path.home().joinpath("x").write_text("x"),
        "connect": lambda port: socket.create_connection(("127.0.0.1", port), 1).close(),
        "signal": lambda pid: os.kill(pid, 0),
        "pair": lambda: len(socket.socketpair()),
        "leave": lambda: os.setsid(),
        "nice": lambda kind, who: os.setpriority(getattr(os, kind), who, 19),
        "policy": lambda pid: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)),
        "cores": lambda pid, cores: os.sched_setaffinity(pid, cores),
        "mine": lambda: [os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0))],
        "open": lambda: os.open(own / "secret", os.O_RDONLY),
        "unpack": unpack,
        "libraries": libraries,
        "syscall": syscall,
        "limits": lambda *all: [resource.getrlimit(getattr(resource, each)) for each in all],
        "group": lambda: os.getpgid(0) == os.getpgrp() and os.getpgid(0),
    }[name](*arguments)


def transform_fn(model, data, content_type, accept):
    global own
    own = model
    told = []
    for call in json.loads(data):
        try:
            told.append(attempt(*call))
        except OSError as error:
            told.append(type(error).__name__)
    return json.dumps(told), "application/json"
"""


def curious(secret: str) -> dict[str, bytes]:
    return {"code/inference.py": SCRIPT, "secret": secret.encode()}


async def attempts(engine: Engine, *calls: list[Any]) -> list[Any]:
    """What each attempt of the model `curious` gave: its result, or the error's name."""
    body = json.dumps(calls).encode()
    reply = await engine.invoke(invocation("curious", body, content_type="application/json"))
    return json.loads(reply.body)


async def test_a_models_code_reaches_its_own_files_and_nobody_elses(tmp_path: Path) -> None:
    drop(tmp_path / "models", "curious", curious("mine"))
    drop(tmp_path / "models", "other", curious("another's"))
    (tmp_path / "keys.toml").write_text("s3cr3t")
    async with running_engine(tmp_path, workers=2) as engine:
        await engine.invoke(invocation("other", b"[]", content_type="application/json"))
        mine = [["own"], ["temporary"], ["home"], ["pair"], ["read", "/proc/self/status"]]
        own, temporary, home, pair, status = await attempts(engine, *mine)
        assert (own, temporary, home, pair) == ("mine", 1, 1, 2)
        assert "NoNewPrivs:\t1" in status
        assert "CapEff:\t0000000000000000" in status
        [theirs] = [path for path in (tmp_path / "cache/models").glob("*/secret")
                    if path.read_text() == "another's"]  # fmt: skip
        lent = [path for path in (tmp_path / "cache/workers").glob("*/models/*/secret")
                if path.read_text() == "another's"]  # fmt: skip
        assert lent
        closed = [
            ["read", str(theirs)],
            *(["read", str(path)] for path in lent),
            ["list", str(tmp_path / "cache/models")],
            ["list", str(tmp_path / "cache/workers")],
            ["read", str(tmp_path / "keys.toml")],
            ["read", f"/proc/{os.getpid()}/environ"],
            ["read", f"/proc/{os.getpid()}/mem"],
            ["read", "/etc/shadow"],
            ["list", str(Path.home())],
            ["write", str(tmp_path / "written")],
            ["write", str(theirs)],
            ["write", "/dev/shm/../mme-written"],
            ["list", "/dev/shm"],
            ["connect", 1],
        ]
        told = await attempts(engine, *closed)
        assert told == ["PermissionError"] * len(closed)
        holds = engine.state()["workers"][0]["isolation"]["holds"]
        assert "system calls and network (seccomp)" in holds
        assert "reading and writing of files (Landlock)" in holds


async def test_a_worker_that_may_use_the_network_still_reads_nobody_elses_files(
    tmp_path: Path,
) -> None:
    drop(tmp_path / "models", "curious", curious("mine"))
    (tmp_path / "keys.toml").write_text("s3cr3t")
    async with running_engine(tmp_path, worker_network="on") as engine:
        told = await attempts(engine, ["connect", 1], ["read", str(tmp_path / "keys.toml")])
        assert told == ["ConnectionRefusedError", "PermissionError"]


async def test_a_models_process_can_not_leave_its_workers_group(tmp_path: Path) -> None:
    drop(tmp_path / "models", "curious", curious("mine"))
    async with running_engine(tmp_path) as engine:
        before, _, after = await attempts(engine, ["group"], ["leave"], ["group"])
        assert before == after == engine.state()["workers"][0]["pid"]


MACHINES = ("x86_64", "aarch64")
of_two_machines = pytest.mark.skipif(os.uname().machine not in MACHINES, reason="of two machines")
HERE, PATH, FILE = -100, "a path", "an open file"
METADATA: dict[str, tuple[int, int | None, list[Any]]] = {  # numbers, arguments
    "chmod": (90, None, [PATH, 0]),
    "fchmod": (91, 52, [FILE, 0]),
    "fchmodat": (268, 53, [HERE, PATH, 0]),
    "fchmodat2": (452, 452, [HERE, PATH, 0, 0]),
    "chown": (92, None, [PATH, 1, 1]),
    "fchown": (93, 55, [FILE, 1, 1]),
    "lchown": (94, None, [PATH, 1, 1]),
    "fchownat": (260, 54, [HERE, PATH, 1, 1, 0]),
    "utime": (132, None, [PATH, None]),
    "utimes": (235, None, [PATH, None]),
    "futimesat": (261, None, [HERE, PATH, None]),
    "utimensat": (280, 88, [HERE, PATH, None, 0]),
    "setxattr": (188, 5, [PATH, "user.mme", "x", 1, 0]),
    "lsetxattr": (189, 6, [PATH, "user.mme", "x", 1, 0]),
    "fsetxattr": (190, 7, [FILE, "user.mme", "x", 1, 0]),
    "setxattrat": (463, 463, [HERE, PATH, 0, "user.mme", "\0" * 16, 16]),
    "removexattr": (197, 14, [PATH, "user.none"]),
    "lremovexattr": (198, 15, [PATH, "user.none"]),
    "fremovexattr": (199, 16, [FILE, "user.none"]),
    "removexattrat": (466, 466, [HERE, PATH, 0, "user.none"]),
    "file_setattr": (469, 469, [HERE, PATH, "\0" * 8, 8, 0]),
}


def owned(path: Path) -> tuple[object, ...]:
    found = path.stat()
    return found.st_mode, found.st_uid, found.st_gid, found.st_mtime, os.listxattr(path)


@of_two_machines
async def test_modes_owners_times_and_attributes_of_files_stay_as_they_are(tmp_path: Path) -> None:
    drop(tmp_path / "models", "curious", curious("mine"))
    keys, place = tmp_path / "keys.toml", MACHINES.index(os.uname().machine)
    keys.write_text("s3cr3t")
    keys.chmod(0o600)
    os.utime(keys, (1, 1))
    async with running_engine(tmp_path) as engine:
        [opened] = await attempts(engine, ["open"])
        [lent] = (tmp_path / "cache/workers").glob("*/models/*/secret")
        before, given = [owned(keys), owned(lent)], {PATH: str(keys), FILE: opened}
        changed = {}
        for name, (*numbers, arguments) in METADATA.items():
            if (number := numbers[place]) is None:
                continue
            told = await attempts(
                engine, ["syscall", number, *(given.get(each, each) for each in arguments)]
            )
            if told != [0] or [owned(keys), owned(lent)] != before:
                changed[name] = told
        assert changed == {}


async def test_libraries_that_set_them_on_files_of_their_own_work(tmp_path: Path) -> None:
    drop(tmp_path / "models", "curious", curious("mine"))
    async with running_engine(tmp_path) as engine:
        assert await attempts(engine, ["unpack"]) == [["x", "x", "x"]]
        assert await attempts(engine, ["libraries"]) == [[[0, 1, 2], [0, 1, 2]]]


PERMISSION, NO_SUCH_CALL = 1, 38
IOPRIO_SET = 251, 30
REFUSED = [  # numbers, arguments, the error; every number is looked at in unit/test_seccomp.py
    ((101, 117), (0, 0, 0, 0), PERMISSION),  # ptrace: trace me
    ((310, 270), (0, 0, 0, 0, 0, 0), PERMISSION),  # process_vm_readv
    ((311, 271), (0, 0, 0, 0, 0, 0), PERMISSION),  # process_vm_writev
    ((312, 272), (0, 0, 0, 0, 0), PERMISSION),  # kcmp
    ((438, 438), (-1, 0, 0), PERMISSION),  # pidfd_getfd
    ((321, 280), (-1, 0, 0), PERMISSION),  # bpf
    ((298, 241), (0, 0, -1, -1, 0), PERMISSION),  # perf_event_open
    ((323, 282), (-1,), PERMISSION),  # userfaultfd
    ((425, 425), (0, 0), PERMISSION),  # io_uring_setup
    ((248, 217), (0, 0, 0, 0, 0), PERMISSION),  # add_key
    ((250, 219), (0, 0, 0, 0, 0), PERMISSION),  # keyctl
    ((165, 40), (0, 0, 0, 0, 0), PERMISSION),  # mount
    ((161, 51), (0,), PERMISSION),  # chroot
    ((272, 97), (0,), PERMISSION),  # unshare
    ((308, 268), (-1, 0), PERMISSION),  # setns
    ((304, 265), (-1, 0, 0), PERMISSION),  # open_by_handle_at
    ((175, 105), (0, 0, 0), PERMISSION),  # init_module
    ((246, 104), (0, 0, 0, 0), PERMISSION),  # kexec_load
    ((169, 142), (0, 0, 0), PERMISSION),  # reboot
    ((294, 26), (0,), PERMISSION),  # inotify_init1
    ((300, 262), (0, 0), PERMISSION),  # fanotify_init
    ((29, 194), (0, 4096, 0o1600), PERMISSION),  # shmget
    ((64, 190), (0, 1, 0o1600), PERMISSION),  # semget
    ((68, 186), (0, 0o1600), PERMISSION),  # msgget
    ((240, 180), ("queue", 0o102, 0o600, 0), PERMISSION),  # mq_open
    ((167, 224), (0, 0), PERMISSION),  # swapon
    ((41, 198), (2, 1, 0), PERMISSION),  # socket
    ((56, 220), (0x10000000, 0, 0, 0, 0), PERMISSION),  # clone into a user namespace
    ((56, 220), (0x10000, 0, 0, 0, 0), PERMISSION),  # clone a thread with files of its own
    ((436, 436), (9_000, 9_001, 2), PERMISSION),  # close_range, and have files of its own
    ((302, 261), (1, 7, 0, 0), PERMISSION),  # prlimit64 of another process
    ((302, 261), (0, 7, 0, 0), 0),  # of itself
    ((435, 435), (0, 0), NO_SUCH_CALL),  # clone3: libc falls back to clone
]


@pytest.fixture
def another_pid() -> Iterator[int]:
    """A process of the server's user that is none of its workers."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


def standing(pid: int) -> tuple[object, ...]:
    """How a process stands with the scheduler."""
    told = psutil.Process(pid)
    return told.nice(), told.cpu_affinity(), told.ionice(), os.sched_getscheduler(pid)


@of_two_machines
async def test_cores_and_priorities_are_changed_of_the_calling_thread_alone(
    tmp_path: Path, another_pid: int
) -> None:
    drop(tmp_path / "models", "curious", curious("mine"))
    last, number = max(os.sched_getaffinity(0)), IOPRIO_SET[MACHINES.index(os.uname().machine)]
    async with running_engine(tmp_path, worker_user="same") as engine:
        before = standing(another_pid), standing(os.getpid())
        told = await attempts(
            engine,
            ["nice", "PRIO_PROCESS", another_pid],
            ["nice", "PRIO_PROCESS", os.getpid()],
            ["nice", "PRIO_PGRP", os.getpgid(0)],
            ["nice", "PRIO_USER", 0],
            ["policy", another_pid],
            ["cores", another_pid, [last]],
            ["syscall", number, 1, another_pid, 3 << 13],
        )
        assert told == [None] * 6 + [0]
        assert (standing(another_pid), standing(os.getpid())) == before
        mine = [["nice", "PRIO_PROCESS", 0], ["cores", 0, [last]], ["mine"]]
        assert await attempts(engine, *mine) == [None, None, [19, [last]]]


@of_two_machines
async def test_calls_that_no_model_needs_are_refused(tmp_path: Path) -> None:
    drop(tmp_path / "models", "curious", curious("mine"))
    place = MACHINES.index(os.uname().machine)
    calls = [["syscall", numbers[place], *arguments] for numbers, arguments, _ in REFUSED]
    async with running_engine(tmp_path) as engine:
        told = await attempts(engine, *calls)
    assert list(zip(calls, told, strict=True)) == [
        (call, error) for call, (_, _, error) in zip(calls, REFUSED, strict=True)
    ]


async def test_a_worker_writes_no_core_and_has_a_limit_of_descriptors(tmp_path: Path) -> None:
    drop(tmp_path / "models", "curious", curious("mine"))
    async with running_engine(tmp_path) as engine:
        [[core, files]] = await attempts(engine, ["limits", "RLIMIT_CORE", "RLIMIT_NOFILE"])
        adjusted = (await attempts(engine, ["read", "/proc/self/oom_score_adj"]))[0]
    ours = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = 16_384 if ours == resource.RLIM_INFINITY else min(ours, 16_384)
    assert (core, files, int(adjusted)) == ([0, 0], [limit, limit], 500)


async def test_off_is_off_and_state_says_so(tmp_path: Path) -> None:
    drop(tmp_path / "models", "curious", curious("mine"))
    (tmp_path / "keys.toml").write_text("open")
    async with running_engine(tmp_path, isolation="off") as engine:
        assert await attempts(engine, ["read", str(tmp_path / "keys.toml")]) == ["open"]
        assert engine.state()["workers"][0]["isolation"] == {"holds": [], "lacks": []}
        assert not (tmp_path / "cache/workers").exists()


@pytest.mark.parametrize("settings", [{"worker_user": "no-such-user"}])
async def test_a_user_that_can_not_be_had_is_told_at_the_start(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    with pytest.raises((ConfigError, WorkerStartError), match="worker_user"):
        async with running_engine(tmp_path, **settings):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give workers another user")
def test_a_worker_of_another_user_writes_its_own_directory_and_reads_no_file_of_the_servers() -> (
    None
):
    script = (
        "import os, sys; from pathlib import Path\n"
        "from mme.workers.sandbox import Plan, enter\n"
        "from mme.workers.sandbox_scratch import Scratch\n"
        "root, user = Path(sys.argv[1]), (65534, 65534)\n"
        "(root / 'key').touch(mode=0o600)\n"
        "scratch = Scratch(root / 'workers', user)\n"
        "plan = Plan(directory=str(scratch.directory), strict=True, network=False, user=user,\n"
        "            reads_all=True, no_user=None, memory_bytes=None)\n"
        "isolation = enter(plan)\n"
        "open('written', 'w').write('x')\n"
        "try:\n"
        "    open(root / 'key')\n"
        "except PermissionError:\n"
        "    print(os.getresuid(), os.getgroups(), isolation.lacks)\n"
    )
    root = tempfile.mkdtemp(dir="/var/tmp")  # nobody can not pass the tests' own
    Path(root).chmod(0o711)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, root],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("(65534, 65534, 65534) [] []\n", "")
        [written] = Path(root).glob("workers/*/tmp/written")
        assert written.stat().st_uid == 65534
    finally:
        shutil.rmtree(root)

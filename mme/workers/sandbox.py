"""What holds a worker: entered once, at its start, before any model's code is there.

Decision: the worker locks itself up, a step at a time, and tells which steps took; so what `/state`
shows is what holds, not what was meant to. `auto` goes on without what the kernel does not have,
`strict` does not. Rejected: namespaces, which containers seldom allow, and a process a model, which
costs 30 MB each. Every step only ever takes away: nothing in a worker can undo one.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from mme.workers.protocol import Isolation
from mme.workers.sandbox_landlock import RUN, Rule, restrict_files
from mme.workers.sandbox_paths import rules
from mme.workers.sandbox_seccomp import restrict_calls
from mme.workers.sandbox_user import become, drop_capabilities

_FILES = 16_384  # descriptors
_PROCESSES = 4_096  # and threads, of the workers' own user
_EXPENDABLE = "500"  # when memory ends, the kernel ends a worker before the server


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker is to be held; None in its place: not at all."""

    directory: str  # its own: `tmp` to write in, `models` to read
    strict: bool
    network: bool
    reads_all: bool  # whoever runs the container puts models anywhere
    user: tuple[int, int] | None  # uid and gid to become; None: stays the server's
    no_user: str | None  # why a server that is root gives it none
    memory_bytes: int | None
    file_bytes: int | None = None  # that a file of its own may be large; None: no limit
    reads: tuple[str, ...] = ()  # besides, and what is a program there it may run
    runs_own: bool = False  # what it writes may be a program: it builds


class NotIsolated(Exception):
    """A step did not take, and all must."""


def enter(plan: Plan) -> Isolation:
    """Locks this process up; call it while there is one thread.

    Raises:
        NotIsolated: a step did not take, and the plan is strict.
    """
    temporary = Path(plan.directory) / "tmp"
    os.chdir(temporary)
    os.umask(0o077)
    holds, lacks = ["own temporary directory"], []
    if plan.no_user is not None:
        lacks.append(f"own user: {plan.no_user}")
    for name, step in _steps(plan, temporary):
        try:
            step()
            holds.append(name)
        except OSError as error:
            lacks.append(f"{name}: {error.strerror}")
    if lacks and plan.strict:
        raise NotIsolated("; ".join(lacks))
    return Isolation(holds=holds, lacks=lacks)


def _steps(plan: Plan, temporary: Path) -> list[tuple[str, Callable[[], object]]]:
    user, reads_all, network = plan.user, plan.reads_all, plan.network
    scope = "writing" if reads_all else "reading and writing"
    steps: list[tuple[str, Callable[[], object]]] = [("limits", lambda: _limit(plan))]
    if user is not None:
        steps.append((f"own user {user[0]}", lambda: become(*user)))
    steps += [
        ("no capabilities", drop_capabilities),
        (
            f"{scope} of files (Landlock)",
            lambda: restrict_files(_rules(plan, temporary), network=network),
        ),
        (
            "system calls (seccomp)" if network else "system calls and network (seccomp)",
            lambda: restrict_calls(network=network, runs_own=plan.runs_own),
        ),
    ]
    return steps


def _rules(plan: Plan, temporary: Path) -> Iterator[Rule]:
    reads = map(Path, plan.reads)
    models = Path(plan.directory) / "models"
    yield from rules(temporary, models, reads, reads_all=plan.reads_all)
    if plan.runs_own:
        yield Rule(temporary, RUN)


def _limit(plan: Plan) -> None:
    Path("/proc/self/oom_score_adj").write_text(_EXPENDABLE)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, _FILES)
    if plan.user is not None:  # the kernel counts all that a user has, the server's own too
        _lower(resource.RLIMIT_NPROC, _PROCESSES)
    if plan.memory_bytes is not None:
        _lower(resource.RLIMIT_DATA, plan.memory_bytes)
    if plan.file_bytes is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error to who writes more, not the end
        _lower(resource.RLIMIT_FSIZE, plan.file_bytes)


def _lower(what: int, limit: int) -> None:
    hard = resource.getrlimit(what)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(what, (limit, limit))

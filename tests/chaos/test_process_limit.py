"""The limit on processes of a worker with a user of its own: it is set, and the kernel keeps it.

Shown in a process that locks itself up as a worker does: a whole worker gets a user of its own only
where that user can reach this Python. A fork bomb of 4,096 would show no more than one of 40.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HELD = """
import errno, json, os, resource, signal, sys
from mme.workers.sandbox import Plan, enter

directory, user, hard_limit, most = json.loads(sys.argv[1])
if hard_limit is not None:
    resource.setrlimit(resource.RLIMIT_NPROC, (hard_limit // 2, hard_limit))
enter(Plan(
    directory=directory, strict=False, network=False, reads_all=False,
    user=user and (user, user), no_user=None, memory_bytes=None,
))
forks, refused = 0, None
while forks < most and refused is None:
    try:
        if os.fork() == 0:
            signal.pause()
    except OSError as error:
        refused = errno.errorcode[error.errno]
    else:
        forks += 1
limits = resource.getrlimit(resource.RLIMIT_NPROC)
print(json.dumps({"forks": forks, "refused": refused, "limits": limits}), flush=True)
signal.pause()
"""
USER = 54_321  # nobody else's, or theirs would count
IS_ROOT = os.geteuid() == 0  # else no other user can be had


@contextmanager
def held(directory: Path, user: int | None, hard_limit: int | None, most: int) -> Iterator[dict]:
    """What a process told that did `most` forks if it could; they are there until the end."""
    (directory / "tmp").mkdir()
    told = json.dumps([str(directory), user, hard_limit, most])
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, told], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("user", [USER if IS_ROOT else None])
def test_a_fork_bomb_with_a_user_of_its_own_ends_at_its_limit_and_others_go_on(
    tmp_path: Path, user: int | None
) -> None:
    hard_limit, forks, refused = (40, 39, "EAGAIN") if user else (None, 60, None)
    with held(tmp_path, user, hard_limit, most=60) as told:
        assert (told["forks"], told["refused"]) == (forks, refused)
        subprocess.run(["true"], check=True)


@pytest.mark.parametrize("user", [USER if IS_ROOT else None])
def test_a_worker_is_limited_in_processes_where_it_alone_has_its_user(
    tmp_path: Path, user: int | None
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NPROC)
    hard_limit = 4_096 if before[1] == resource.RLIM_INFINITY else min(4_096, before[1])
    expected = (hard_limit, hard_limit) if user else before
    with held(tmp_path, user, None, most=0) as told:
        assert tuple(told["limits"]) == expected

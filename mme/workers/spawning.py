"""Starts a worker's process: with what environment, what it holds open, where it may write.

Decision: a worker locks itself up, and goes on; one with packages of its models' is started by what
locks itself up first and then becomes the worker. Their directory stands first on Python's path,
before the standard library: with it there from the start, code of theirs would run unheld. Rejected
for all workers: it starts Python twice, and takes 0.1 s.

What it writes itself is `worker_output` in the log: a start that fails, native code, threads and
child processes of models. What models print by Python comes with their names, see `Printed`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from mme.errors import MmeError
from mme.output import Output
from mme.workers.confined import Order, confined
from mme.workers.sandbox import Plan
from mme.workers.spec import WorkerSpec, worker_environment

_OUTPUT = "worker_output"


class WorkerStartError(MmeError):
    """A worker did not become ready.

    Args:
        message: why, as far as it can be seen from outside.
        said: what it wrote last, which is not for clients.
    """

    def __init__(self, message: str, said: str = "") -> None:
        super().__init__(message)
        self.said = said


async def spawn_worker(
    spec: WorkerSpec, fds: tuple[int, int], plan: Plan | None, home: Path | None
) -> tuple[asyncio.subprocess.Process, Output]:
    """A new process and what reads its output.

    Args:
        spec: what it is told, and sees.
        fds: for predictions and for control.
        plan: how it is to lock itself up.
        home: a directory of its own; None: it has the server's.

    Raises:
        OSError: the system can't start it.
    """
    environment = worker_environment(os.environ, spec.threads, home)
    path = _python_path(spec.packages, environment)
    if spec.packages is None or plan is None:
        command = _command(spec.options(fds, home, plan))
        environment["PYTHONPATH"] = path
    else:
        worker = _command(spec.options(fds, home, None))
        command = confined(Order(plan=plan, command=worker, python_path=path, isolation_fd=fds[1]))
    async with Output.piped(_OUTPUT, logging.WARNING, worker=spec.index) as (output, writing):
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL, stdout=writing, stderr=writing,
            pass_fds=fds, start_new_session=True,
            env=environment,
        )  # fmt: skip
    return process, output


def _python_path(packages: Path | None, environment: Mapping[str, str]) -> str:
    others = environment.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(os.path.abspath(path) for path in (packages, *others) if path)  # noqa: PTH100 - text


def _command(options: str) -> list[str]:
    return [sys.executable, "-P", "-m", "mme.workers.child", options]

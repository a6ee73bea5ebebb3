"""Starts a worker's process: with what environment, what it holds open, where it may write.

What it writes itself is `worker_output` in the log: a start that fails, native code, threads and
child processes of models. What models print by Python comes with their names, see `Printed`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

from mme.output import Output
from mme.workers.sandbox import Plan
from mme.workers.spec import WorkerSpec, worker_environment

_OUTPUT = "worker_output"


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
    async with Output.piped(_OUTPUT, logging.WARNING, worker=spec.index) as (output, writing):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "mme.workers.child", spec.options(*fds, plan),
            stdin=asyncio.subprocess.DEVNULL, stdout=writing, stderr=writing,
            pass_fds=fds, start_new_session=True,
            env=worker_environment(os.environ, spec.threads, spec.packages, home),
        )  # fmt: skip
    return process, output

"""Runs the load generator in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from load_tests.plan import Outcome, Plan
from load_tests.server_process import ROOT

_SLACK_SECONDS = 60


class GeneratorFailed(Exception):
    """The load generator gave no outcome."""


def measure(plan: Plan) -> Outcome:
    """Carries out `plan`.

    Raises:
        GeneratorFailed: the server could not be reached, or the generator broke.
    """
    limit_seconds = plan.warm_up_seconds + plan.seconds + plan.drain_seconds + _SLACK_SECONDS
    try:
        done = subprocess.run(
            [sys.executable, "-m", "load_tests.client"],
            input=plan.to_json(),
            capture_output=True,
            text=True,
            cwd=ROOT,  # where load_tests is found, which is not installed
            timeout=limit_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise GeneratorFailed(f"no outcome within {limit_seconds} s") from error
    if done.returncode:
        raise GeneratorFailed(done.stderr.strip())
    return Outcome.from_json(done.stdout)

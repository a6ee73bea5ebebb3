"""A flood by wrk, for its processor time is a tenth of ours.

Decision: it asks for one model only, in an open loop by a script of ours, from one thread; it tells
no latency, since nobody looks at a flood's own. Moments are kept to a millisecond, which is as fine
as its timers are.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import tempfile
from pathlib import Path

from load_tests.measure import GeneratorFailed
from load_tests.plan import Outcome, Plan

_SCRIPT = Path(__file__).with_name("open_loop.lua")
_SLACK_SECONDS = 30
_KINDS = {
    "wrong": "wrong answer",
    "refused": "status 503",
    "failed": "another status",
    "lost": "connection lost",
}


def measure_by_wrk(plan: Plan) -> Outcome:
    """Carries out `plan`, whose only question is answered with one number, in an open loop.

    Raises:
        GeneratorFailed: wrk is not installed, or broke.
    """
    [question] = plan.questions
    [expected] = question.expected
    wrk = shutil.which("wrk")
    if wrk is None:
        raise GeneratorFailed("the flood is sent by wrk, which is not installed; Debian has it")
    seconds = math.ceil(plan.warm_up_seconds + plan.seconds)
    with tempfile.NamedTemporaryFile("w", prefix="mme-load-") as body:
        body.write(question.body)
        body.flush()
        told = (
            body.name, question.target, plan.arrivals_per_second, plan.warm_up_seconds,
            plan.seconds, plan.seed, expected,
        )  # fmt: skip
        target = f"http://127.0.0.1:{plan.port}{plan.path}"
        flags = ("--threads=1", f"--connections={plan.connections}", f"--duration={seconds}s")
        counts = _told([wrk, *flags, f"--script={_SCRIPT}", target, "--", *map(str, told)], seconds)
    return Outcome(
        answered=counts["counted"],
        seconds=plan.seconds,
        latency={},
        lateness={},
        checked=counts["checked"],
        errors={told: counts[kind] for kind, told in _KINDS.items() if counts[kind]},
        first_wrong=None,
        processors={},
    )


def _told(command: list[str], seconds: float) -> dict[str, int]:
    limit_seconds = seconds + _SLACK_SECONDS
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise GeneratorFailed(f"wrk did not end within {limit_seconds} s") from error
    last = done.stdout.strip().rpartition("\n")[2]
    if done.returncode or not last.startswith("{"):
        raise GeneratorFailed(f"wrk broke: {(done.stderr or done.stdout).strip()}")
    counts: dict[str, int] = json.loads(last)
    return counts

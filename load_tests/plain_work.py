"""A process that computes in bursts and touches nothing else: what any work costs its neighbours.

`python -m load_tests.plain_work SECONDS_OF_A_BURST BURSTS_A_SECOND SECONDS`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from load_tests.server_process import ROOT


@contextmanager
def working(cores: float, bursts_per_second: float, seconds: float) -> Iterator[None]:
    """Meanwhile so much of a core's time is used up, in so many bursts a second.

    Args:
        cores: at most one.
        bursts_per_second: begun at even distances.
        seconds: for which at most.
    """
    figures = (cores / bursts_per_second, bursts_per_second, seconds)
    command = [sys.executable, "-m", "load_tests.plain_work", *map(str, figures)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            yield
        finally:
            process.terminate()


def work(burst_seconds: float, bursts_per_second: float, seconds: float) -> None:
    """Works in bursts, and returns."""
    began = time.monotonic()
    for number in range(int(seconds * bursts_per_second)):
        time.sleep(max(0.0, began + number / bursts_per_second - time.monotonic()))
        until = time.thread_time() + burst_seconds
        while time.thread_time() < until:
            pass


if __name__ == "__main__":
    work(*map(float, sys.argv[1:]))

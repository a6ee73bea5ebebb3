"""The real server in a process of its own, as a user starts it; ready when it prints its line."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mme.errors import StoreUnavailable

START_SECONDS = 60
STOP_SECONDS = 30


@contextmanager
def server(log: Path, **settings: object) -> Iterator[str]:
    """Runs `mme serve` with `settings`, logging to `log`, and yields its URL. Ends it on leaving.

    Raises:
        StoreUnavailable: it did not come up; the message holds the end of its log.
    """
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    command = [sys.executable, "-P", "-m", "mme.cli.main", "serve", *flags]
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        yield _await_url(process, log)
    finally:
        _stop(process)


def _await_url(process: subprocess.Popen[str], log: Path) -> str:
    # a timer ends a server that says nothing, so that the read below always returns
    timer = threading.Timer(START_SECONDS, process.kill)
    timer.start()
    try:
        line = process.stdout.readline() if process.stdout else ""
    finally:
        timer.cancel()
    found = re.search(r" at (https?://\S+) as endpoint ", line)
    if found is None:
        process.kill()
        process.wait()
        raise StoreUnavailable(
            f"the server did not start:\n{log.read_text()[-2000:].strip() or line}"
        )
    return found[1]


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()

"""Servers as a user starts them: a process each, known by the line that it prints when it listens.

Decision: on any failure the message carries the end of the server's own log, since the log is gone
with its directory.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
_START_SECONDS = 120
_STOP_SECONDS = 60
_SHOWN = 3000


class ServerFailed(Exception):
    """The server did not start, or did not end well."""


@dataclass(frozen=True, kw_only=True)
class RunningServer:
    """A server that listens on loopback."""

    port: int
    pid: int
    loads: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # as `peers.base.Start`


@contextmanager
def mme_server(
    models: Path | None, scratch: Path, flags: Sequence[str] = ()
) -> Iterator[RunningServer]:
    """`mme serve` on a directory, if there is one, with the settings that a user gets and `flags`.

    Raises:
        ServerFailed: it did not come up, or SIGTERM did not end it with code 0.
    """
    command = ["-P", "-m", "mme.cli.main", "serve", "--port", "0"]
    command += ["--restore", "off"]  # a server that starts again on one scratch is to be a cold one
    if models is not None:
        command += ["--models", str(models)]
    with _running(
        [*command, "--cache-dir", str(scratch / "cache"), *flags], scratch / "mme.log"
    ) as server:
        yield server


@contextmanager
def null_server(kind: str, scratch: Path, *more: str) -> Iterator[RunningServer]:
    """One of `null_server.py`'s kinds, with what it takes more. Raises ServerFailed."""
    command = ["-m", "load_tests.null_server", kind, *more]
    with _running(command, scratch / f"null-{kind}.log") as server:
        yield server


@contextmanager
def _running(arguments: Sequence[str], log: Path) -> Iterator[RunningServer]:
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,  # where load_tests is found, which is not installed
        ) as process,
    ):
        try:
            yield RunningServer(port=_await_port(process, log), pid=process.pid)
        except BaseException:
            _stop(process)
            raise
        if code := _stop(process):
            raise ServerFailed(f"it ended with code {code}:\n{_end_of(log)}")


def _await_port(process: subprocess.Popen[str], log: Path) -> int:
    # a timer ends a server that says nothing, so that the read below always returns
    timer = threading.Timer(_START_SECONDS, process.kill)
    timer.start()
    try:
        line = process.stdout.readline() if process.stdout else ""
    finally:
        timer.cancel()
    found = re.search(r" at http://\S+:(\d+) as endpoint ", line)
    if found is None:
        process.kill()
        raise ServerFailed(f"it did not start: {line.strip()}\n{_end_of(log)}")
    return int(found[1])


def _stop(process: subprocess.Popen[str]) -> int:
    process.terminate()
    try:
        return process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-_SHOWN:].strip()

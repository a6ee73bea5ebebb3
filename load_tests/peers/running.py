"""A peer as it runs: a process group of its own on loopback, known to serve before it is asked."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from load_tests.peers.base import CODE, ModelSet, Peer, Site, Start
from load_tests.peers.environments import PeerUnavailable
from load_tests.server_process import RunningServer

_READY_SECONDS = 180.0
_LOAD_SECONDS = 60.0
_STOP_SECONDS = 20.0
_PORTS = 4  # that a peer may use, in a row
_PORT_RANGE = (20_000, 32_000)


@contextmanager
def running(
    peer: Peer, python: Path, chosen: ModelSet, room: int, directory: Path
) -> Iterator[RunningServer]:
    """Starts a peer that serves `chosen`, and ends it with all that it started.

    Raises:
        PeerUnavailable: it did not come up.
    """
    directory.mkdir(parents=True)
    shutil.copy(CODE, directory)
    port = _free_ports()
    site = Site(directory=directory, python=python, port=port, chosen=chosen, room=room)
    start = peer.prepare(site)
    log = directory / "server.log"
    environment = {**os.environ, **start.environment}
    environment["PATH"] = f"{site.bin}:{environment['PATH']}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in start.command],
            stdout=output, stderr=subprocess.STDOUT, cwd=directory,
            env=environment, start_new_session=True,
        )  # fmt: skip
    try:
        _wait(peer, start, process, log)
        _load(peer, start, site, log)
        yield RunningServer(port=start.port, pid=process.pid, loads=start.loads)
    finally:
        _end(process)


def _wait(peer: Peer, start: Start, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _READY_SECONDS
    while not _answers(start.port, "GET", start.ready_path, 2.0):
        if process.poll() is not None or time.monotonic() > until:
            end = log.read_text(errors="replace")[-2000:]
            raise PeerUnavailable(f"{peer.name} did not start:\n{end}")
        time.sleep(0.2)


def _load(peer: Peer, start: Start, site: Site, log: Path) -> None:
    for model in site.models[: site.loaded]:
        if model.name not in start.loads:
            continue
        method, path = start.loads[model.name]
        if not _answers(start.port, method, path, _LOAD_SECONDS):
            end = log.read_text(errors="replace")[-2000:]
            raise PeerUnavailable(f"{peer.name} did not load {path}:\n{end}")


def _answers(port: int, method: str, path: str, seconds: float) -> bool:
    url = f"http://127.0.0.1:{port}{path}"
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=seconds):  # noqa: S310 - loopback
            return True
    except (urllib.error.URLError, OSError):
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    started = [] if process.poll() is not None else psutil.Process(process.pid).children(True)
    for number, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    for orphan in started:  # some leave the group
        with suppress(psutil.NoSuchProcess):
            orphan.kill()


def _free_ports() -> int:
    """The first of several free ports in a row, below those of outgoing connections."""
    while True:
        port = random.randrange(*_PORT_RANGE)
        if all(_is_free(port + more) for more in range(_PORTS)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

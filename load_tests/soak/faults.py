"""The faults, one after another and over again, each with what it may do to whom.

Decisions: one at a time, and the next one when its predecessor has passed, so that an error has one
cause. What is hot stays in memory while the store is gone, so no fault of the store excuses an
error there; a slow store excuses none at all.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import psutil

from load_tests.operator import Operator
from load_tests.processes import worker_pids
from load_tests.server_process import RunningServer
from load_tests.soak.book import Book, Excuses, Injected
from load_tests.soak.relay import REFUSING, RESETTING, SILENT, SLOW, Relay

_PASS_SECONDS = 3.0  # for what was remembered of a failure
_WORKER_SECONDS = 60.0
_LOOK_SECONDS = 0.2
_LOADED = ("cold", "overwritten", "mended")  # from the store, sooner or later
_ALL = ("hot", "pipelining", *_LOADED)
# 429: a fresh worker imports the framework first, and a busy machine takes long over it
_WORKER_LOST = dict.fromkeys(_ALL, frozenset({"status 424", "status 429"}))
_STORE_GONE = dict.fromkeys(_LOADED, frozenset({"status 530"}))


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One that can be switched on and off; `passed` waits until the server is over it."""

    name: str
    excuses: Excuses
    begin: Callable[[], None]
    end: Callable[[], None]
    passed: Callable[[], None]


class Faults(threading.Thread):
    """Injects them in turn until `over`.

    Args:
        faults: in their order.
        lasting_seconds: how long each stays.
        pause_seconds: without any, between two.
    """

    def __init__(
        self,
        faults: Sequence[Fault],
        *,
        lasting_seconds: float,
        pause_seconds: float,
        over: threading.Event,
        book: Book,
    ) -> None:
        super().__init__(name="faults")
        self._faults, self._book, self._over = faults, book, over
        self._lasting_seconds, self._pause_seconds = lasting_seconds, pause_seconds

    def run(self) -> None:
        """As in Thread; what has begun is ended in any case."""
        for fault in cycle(self._faults):
            if self._over.wait(self._pause_seconds):
                return
            since = time.monotonic()
            fault.begin()
            try:
                self._over.wait(self._lasting_seconds)
            finally:
                fault.end()
            fault.passed()
            self._book.inject(
                Injected(
                    name=fault.name, since=since, until=time.monotonic(), excuses=fault.excuses
                )
            )


def faults_of_workers(server: RunningServer, seed: int) -> Iterator[Fault]:
    """One is ended by SIGKILL, or stopped, so that it is silent until the server ends it."""
    choose = random.Random(seed)
    struck: list[int] = []

    def send(number: signal.Signals) -> Callable[[], None]:
        def begin() -> None:
            struck.append(choose.choice(worker_pids(server.pid)))
            with suppress(psutil.NoSuchProcess):
                psutil.Process(struck[-1]).send_signal(number)

        return begin

    def passed() -> None:
        until = time.monotonic() + _WORKER_SECONDS
        with Operator(server.port) as operator:
            while time.monotonic() < until and not _is_replaced(struck[-1], operator):
                time.sleep(_LOOK_SECONDS)
        _wait()

    for name, number in (("worker killed", signal.SIGKILL), ("worker silent", signal.SIGSTOP)):
        yield Fault(
            name=name, excuses=_WORKER_LOST, begin=send(number), end=_nothing, passed=passed
        )


def _is_replaced(pid: int, operator: Operator) -> bool:
    workers = operator.state()["workers"]
    return all(worker["state"] == "ready" and worker["pid"] != pid for worker in workers)


def faults_of_the_store(relay: Relay) -> Iterator[Fault]:
    """It is slow, says 503, resets, says nothing."""

    def turn(fault: str | None) -> Callable[[], None]:
        return lambda: setattr(relay, "fault", fault)

    for fault in (SLOW, REFUSING, RESETTING, SILENT):
        yield Fault(
            name=f"store {fault}",
            excuses={} if fault == SLOW else _STORE_GONE,
            begin=turn(fault),
            end=turn(None),
            passed=_wait,
        )


def faults_of_an_object(server: RunningServer, path: Path, scratch: Path) -> Iterator[Fault]:
    """What `mended` traffic asks for is damaged, or is not there, and then comes back.

    It is taken out of memory, too, for what is there would go on answering.
    """
    whole = path.read_bytes()

    def put(data: bytes) -> None:
        incoming = scratch / "mended"
        incoming.write_bytes(data)
        incoming.replace(path)

    def begin_cold(begin: Callable[[], None]) -> Callable[[], None]:
        def begin_and_unload() -> None:
            begin()
            with Operator(server.port) as operator:
                operator.unload(path.name)

        return begin_and_unload

    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for name, begin, status in (
        ("object damaged", lambda: put(bytes(flipped)), 424),
        ("object cut short", lambda: put(whole[: len(whole) // 2]), 424),
        ("object deleted", path.unlink, 400),
    ):
        yield Fault(
            name=name,
            excuses={"mended": frozenset({f"status {status}"})},
            begin=begin_cold(begin),
            end=lambda: put(whole),
            passed=_wait,
        )


def _wait() -> None:
    time.sleep(_PASS_SECONDS)


def _nothing() -> None:
    """It ends by itself."""

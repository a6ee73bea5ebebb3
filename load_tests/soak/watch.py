"""What the server and its workers hold meanwhile, looked at from outside every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression

import psutil

from load_tests.operator import Operator
from load_tests.processes import MEGABYTE, anonymous_bytes, worker_pids
from load_tests.server_process import RunningServer
from load_tests.soak.book import Book

_HOUR_SECONDS = 3600.0
_WARM_UP_RATIO = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One look."""

    at: float  # on the clock of `time.monotonic`
    server_bytes: int  # private and from no file
    worker_bytes: int  # of all workers
    charged_bytes: int  # by the ledger, to models in memory
    held_bytes: int  # charged, reserved and leaving
    descriptors: int
    threads: int
    tasks: int
    right_count: int  # answers so far


class Watch(threading.Thread):
    """Looks until `over`."""

    def __init__(
        self, server: RunningServer, *, pause_seconds: float, over: threading.Event, book: Book
    ) -> None:
        super().__init__(name="watch")
        self._server, self._book = server, book
        self._pause_seconds, self._over = pause_seconds, over
        self.samples: list[Sample] = []

    def run(self) -> None:
        """As in Thread; a worker that ends while it is looked at costs one look."""
        with Operator(self._server.port) as operator:
            while not self._over.wait(self._pause_seconds):
                try:
                    self.samples.append(self._look(operator))
                except (psutil.NoSuchProcess, OSError, ValueError):
                    continue

    def _look(self, operator: Operator) -> Sample:
        state, pid = operator.state(), self._server.pid
        memory, process = state["memory"], state["process"]
        held = ("resident_bytes", "reserved_bytes", "leaving_bytes")
        return Sample(
            at=time.monotonic(),
            server_bytes=anonymous_bytes(pid),
            worker_bytes=sum(map(anonymous_bytes, worker_pids(pid))),
            charged_bytes=memory["resident_bytes"],
            held_bytes=sum(memory[name] for name in held),
            descriptors=process["descriptors"],
            threads=process["threads"],
            tasks=process["tasks"],
            right_count=self._book.right_count,
        )


def steady(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Those after warming up: the first fifth is left out."""
    return samples[int(_WARM_UP_RATIO * len(samples)) :]


def slope(samples: Sequence[Sample], values: Sequence[float]) -> float:
    """Bytes a second by least squares -> MB an hour; 0 of fewer than two."""
    if len(values) < 2:  # noqa: PLR2004 - a line takes two
        return 0.0
    times = [sample.at for sample in samples]
    return float(linear_regression(times, values).slope) * _HOUR_SECONDS / MEGABYTE

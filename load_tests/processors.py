"""Who used the processors meanwhile: the server with its children, the generator, or others.

Where others used any to speak of, the figures are not those of a machine of one's own, and say so.
"""

from __future__ import annotations

import time

import psutil


class Watch:
    """Looks from its making until `read`.

    Args:
        server_pid: the process whose tree is the server.
    """

    def __init__(self, server_pid: int) -> None:
        self._server = psutil.Process(server_pid)
        self._before = self._now()

    def read(self) -> dict[str, float]:
        """Processor seconds that each used; children that have ended meanwhile count as others."""
        elapsed, generator, server, busy = (
            now - before for now, before in zip(self._now(), self._before, strict=True)
        )
        return {
            "elapsed_seconds": elapsed,
            "generator_seconds": generator,
            "server_seconds": server,
            "other_seconds": max(busy - generator - server, 0.0),
        }

    def _now(self) -> tuple[float, float, float, float]:
        tree = (self._server, *self._server.children(recursive=True))
        used = [process.cpu_times() for process in tree]
        server = sum(times.user + times.system for times in used)
        machine = psutil.cpu_times()
        busy = sum(machine) - machine.idle - machine.iowait - machine.guest - machine.guest_nice
        return time.monotonic(), time.process_time(), server, busy

"""When all is quiet: the ledger beside the workers' memory, and every descriptor accounted for.

Decision: what models really take is what the workers give back when all are unloaded; a worker's
memory has no other mark that says which of it is theirs. What earlier models left between them
comes back then, too, and is in the sum as the server counts it.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from load_tests.findings import Finding
from load_tests.operator import Operator
from load_tests.processes import MEGABYTE, anonymous_bytes, worker_pids
from load_tests.server_process import RunningServer

_QUIET_SECONDS = 60.0
_LOOK_SECONDS = 0.2
_CHARGE_RATIO = 0.05  # as in docs/memory.md
_OWN_MEGABYTES = 1.0  # that a worker may trim of its own with the last model
_OK = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """What the server holds at a quiet moment."""

    tasks: int
    threads: int
    descriptors: Counter[str]  # by what they lead to
    worker_descriptors: int  # of the worker that has most


def read_held(server: RunningServer, store_port: int | None, operator: Operator) -> Held:
    """Counts."""
    process = operator.state()["process"]
    workers = [psutil.Process(pid).num_fds() for pid in worker_pids(server.pid)]
    return Held(
        tasks=process["tasks"],
        threads=process["threads"],
        descriptors=Counter(_lead_to(server, store_port)),
        worker_descriptors=max(workers),
    )


def wait_until_quiet(operator: Operator, before: Held | None = None) -> None:
    """Until nothing is loaded or unloaded and no more tasks run than `before`; a minute at most."""
    until = time.monotonic() + _QUIET_SECONDS
    while time.monotonic() < until and not _is_quiet(operator.state(), before):
        time.sleep(_LOOK_SECONDS)


def compare_held(before: Held, after: Held) -> Iterator[Finding]:
    """What there is more than before; connections to the store are kept, and told."""
    excess = after.descriptors - before.descriptors
    kept = excess.pop("store", 0)
    for figure, value, target in (
        ("tasks more than at the start", after.tasks - before.tasks, 0),
        ("threads more than at the start", after.threads - before.threads, None),
        ("descriptors more than at the start", excess.total(), 0),
        ("kept connections to the store more", kept, None),
        (
            "descriptors of a worker more",
            after.worker_descriptors - before.worker_descriptors,
            0,
        ),
    ):
        yield Finding(subject="at the end", figure=figure, value=value, target=target)


def compare_ledger(server: RunningServer, operator: Operator, cache: Path) -> Iterator[Finding]:
    """The sums beside the truth; unloads all models for it."""
    state = operator.state()
    memory, models = state["memory"], state["models"]
    charged = memory["resident_bytes"]
    for name in ("reserved_bytes", "leaving_bytes"):
        yield _finding(name.replace("_", " "), memory[name], 0)
    summed = sum(model["bytes"] for model in models)
    yield _finding("charged bytes that are no model's", abs(charged - summed), 0)
    used = state["disk"]["used_bytes"]
    yield _finding("disk tier, MB as counted", used / MEGABYTE)
    yield _finding("disk tier, MB on disk", _disk_bytes(cache / "models") / MEGABYTE)
    held, names = _workers_bytes(server), {model["model"] for model in models}
    failed = sum(operator.unload(name) != _OK for name in names)
    yield _finding("unloads that failed", failed, 0)
    after = operator.state()
    yield _finding("charged after that, bytes", after["memory"]["resident_bytes"], 0)
    kept = _lost_bytes(after) - _lost_bytes(state)
    returned = held - _workers_bytes(server)
    for figure, value in (("charged to models", charged), ("given back with them", returned)):
        yield _finding(f"{figure}, MB", value / MEGABYTE)
    yield _finding("kept by workers more, as counted, MB", kept / MEGABYTE)
    apart = abs(charged - kept - returned) / MEGABYTE
    limit = max(_CHARGE_RATIO * charged / MEGABYTE, _OWN_MEGABYTES * len(after["workers"]))
    yield _finding("charged less kept beside given back, MB apart", apart, limit)


def _lost_bytes(state: dict[str, Any]) -> int:
    """What models have left in the workers, as the server counts it."""
    return sum(worker["lost_bytes"] for worker in state["workers"])


def _finding(figure: str, value: float, target: float | None = None) -> Finding:
    return Finding(subject="ledger", figure=figure, value=value, target=target)


def _is_quiet(state: dict[str, Any], before: Held | None) -> bool:
    memory = state["memory"]
    moving = state["loading"] or memory["reserved_bytes"] or memory["leaving_bytes"]
    return not moving and (before is None or state["process"]["tasks"] <= before.tasks)


def _workers_bytes(server: RunningServer) -> int:
    return sum(map(anonymous_bytes, worker_pids(server.pid)))


def _disk_bytes(directory: Path) -> int:
    return sum(
        (Path(folder) / name).stat().st_blocks * 512
        for folder, _, names in os.walk(directory)
        for name in (*names, ".")
    )


def _lead_to(server: RunningServer, store_port: int | None) -> Iterator[str]:
    connections = psutil.Process(server.pid).net_connections(kind="inet")
    known = {connection.fd: connection for connection in connections}
    for entry in Path(f"/proc/{server.pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue  # it was closed meanwhile
        connection = known.get(int(entry.name))
        if connection is None:
            yield "file" if target.startswith("/") else target.partition(":")[0]
        elif connection.status == psutil.CONN_LISTEN:
            yield "listening"
        elif connection.raddr and connection.raddr.port == store_port:
            yield "store"
        else:
            yield "clients"

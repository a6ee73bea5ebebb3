"""No thread and no process can be had any more: what is there goes on, and the rest comes back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.chaos.control_group import can_be_made, make_group
from tests.engines import drop
from tests.models import booster
from tests.servers import predict, runtime_client, serving

pytestmark = pytest.mark.timeout(90)
# Where no control group can be made, the same has to hold, but the server is kept from nothing.
LIMIT = "pids" if can_be_made("pids") else "none to be had here"
COLD = range(2, 10)


def is_model(seed: int) -> object:
    return pytest.approx(booster(seed).prediction, rel=1e-6)


@contextlib.contextmanager
def limited(server: psutil.Process) -> Iterator[Callable[[int | None], None]]:
    """The server and its worker in a group; yields what sets how many threads they may have."""
    group = make_group(LIMIT) if LIMIT == "pids" else None
    if group is None:
        yield lambda _most: None
        return
    for process in (server, *server.children(recursive=True)):
        group.add(process.pid)
    group.limit(None)
    try:
        yield group.limit
    finally:
        group.limit(None)
        server.terminate()
        server.wait()
        group.remove()


@pytest.mark.parametrize("limit", [LIMIT])
def test_without_threads_and_processes_to_be_had_it_loads_and_comes_back(
    tmp_path: Path, limit: str
) -> None:
    for seed in (1, *COLD):
        drop(tmp_path / "models", f"m{seed}", booster(seed).members)
    with (
        serving(tmp_path, tmp_path / "models") as served,
        runtime_client(served.url, retries={"max_attempts": 0}) as client,
        limited(server := psutil.Process(served.process.pid)) as at_most,
        ThreadPoolExecutor(len(COLD)) as callers,
    ):
        assert predict(client, "m1") == is_model(1)  # its worker has the framework's threads
        [worker] = server.children()
        at_most(server.num_threads() + worker.num_threads())
        answers = callers.map(lambda seed: predict(client, f"m{seed}"), COLD)
        assert [*answers] == [is_model(seed) for seed in COLD]
        at_most(server.num_threads())
        worker.kill()
        assert limit != "pids" or served.logged(event="worker_not_started")
        waiting = callers.submit(predict, client, "m1")
        at_most(None)
        assert waiting.result() == is_model(1)
        for seed in COLD:
            assert predict(client, f"m{seed}") == is_model(seed)
        assert "internal_error" not in {line["event"] for line in served.log()}
        memory = served.state()["memory"]
        assert memory["reserved_bytes"] == memory["leaving_bytes"] == 0
        assert not list((tmp_path / "cache/incoming").iterdir())

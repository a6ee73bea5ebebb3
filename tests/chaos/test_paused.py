"""A machine that is paused, a container that is frozen: when it goes on, so does everything."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from tests.engines import drop
from tests.models import booster
from tests.servers import predict, runtime_client, serving

SILENCE_SECONDS, PAUSE_SECONDS = 1.0, 3.0
FLAGS = ("--silence-seconds", str(SILENCE_SECONDS), "--heartbeat-seconds", "0.2")


def is_model(seed: int) -> object:
    return pytest.approx(booster(seed).prediction, rel=1e-6)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fronts", ["1", "2"])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "server alone"])
def test_a_pause_longer_than_a_worker_may_be_silent_costs_no_worker_and_no_model(
    tmp_path: Path, whole: bool, fronts: str
) -> None:
    drop(tmp_path / "models", "m1", booster(1).members)
    drop(tmp_path / "models", "m2", booster(2).members)
    with (
        serving(tmp_path, tmp_path / "models", *FLAGS, "--fronts", fronts) as served,
        runtime_client(served.url, retries={"max_attempts": 0}) as client,
    ):
        assert predict(client, "m1") == is_model(1)
        server = psutil.Process(served.process.pid)
        children = server.children(recursive=True)
        paused = [server, *children] if whole else [server]
        for process in paused:
            process.suspend()
        time.sleep(PAUSE_SECONDS)
        for process in paused:
            process.resume()
        assert predict(client, "m1") == is_model(1)
        time.sleep(2 * SILENCE_SECONDS)  # in which it would be ended
        assert predict(client, "m2") == is_model(2)
        assert server.children(recursive=True) == children
        state = served.state()
        assert {event["kind"] for event in state["events"]} == {"loaded"}
        memory = state["memory"]
        assert memory["reserved_bytes"] == memory["leaving_bytes"] == 0
        assert memory["resident_bytes"] == sum(model["bytes"] for model in state["models"])

"""A server that starts again, with what was hot in memory before anyone asks for it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.engines import drop
from tests.eventually import wait_for
from tests.models import booster
from tests.servers import Served, predict, runtime_client, serving

MODELS = 30


def names(served: Served) -> set[str]:
    return {model["model"] for model in served.state()["models"]}


def listed(root: Path) -> int:
    try:
        return len(json.loads((root / "cache" / "hot.json").read_bytes())["models"])
    except FileNotFoundError:
        return 0


@pytest.mark.timeout(90)
def test_after_a_kill_the_hot_models_are_back_from_disk_before_anyone_asks(tmp_path: Path) -> None:
    models = tmp_path / "models"
    for seed in range(MODELS):
        drop(models, f"m{seed}", booster(seed).members)
    with serving(tmp_path, models) as served, runtime_client(served.url) as client:
        for seed in range(MODELS):
            predict(client, f"m{seed}")
        wait_for(lambda: listed(tmp_path) == MODELS)
        served.process.kill()
        served.process.wait()
    with serving(tmp_path, models) as served:
        wait_for(lambda: served.state()["warming"] == {"restored": True, "waiting": 0})
        assert names(served) == {f"m{seed}" for seed in range(MODELS)}
        assert served.state()["disk"]["artifacts"] == MODELS
        with urllib.request.urlopen(f"{served.url}/metrics", timeout=10) as reply:
            text = reply.read().decode()
        assert "mme_fetched_bytes_total 0.0" in text
        assert 'mme_requests_total{route="invocations"' not in text
        with runtime_client(served.url) as client:
            assert predict(client, "m7") == pytest.approx(booster(7).prediction, rel=1e-6)
        check_prewarming(served, models)
        [line] = [line for line in served.log() if line["event"] == "restored"]
        assert line["models"] == MODELS


def check_prewarming(served: Served, models: Path) -> None:
    """`POST /prewarm` tells what was taken and what is unknown."""
    drop(models, "tenant/a", booster(1).members)
    told = {"taken": 1, "inMemory": 1, "unknown": [{"modelName": "no", "reason": "missing"}]}
    assert post(served, b'{"models": ["tenant/a", "m1", "no", "tenant/a"]}') == (202, told)
    wait_for(lambda: "tenant/a" in names(served))
    for hostile in (b"", b"[]", b'{"models": "a"}', b'{"models": ["../a"]}', b"\xff"):
        status, error = post(served, hostile)
        assert (status, error["type"]) == (400, "BadRequestException")


def post(served: Served, body: bytes) -> tuple[int, dict]:
    request = urllib.request.Request(f"{served.url}/prewarm", data=body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)

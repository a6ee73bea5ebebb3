"""The disk is full: what is in memory answers, what is not gets a typed error, and it passes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.engines import drop
from tests.models import booster
from tests.servers import predict, runtime_client, serving
from tests.small_disk import SmallDisk

MIB = 1024**2
DISKS = ["tmpfs", "file limit"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", DISKS)
def test_a_full_disk_is_survived_and_recovers_by_itself(tmp_path: Path, kind: str) -> None:
    models = tmp_path / "models"
    for seed in range(1, 5):
        padded = {**booster(seed).members, "padding.bin": os.urandom(3 * MIB)}
        drop(models, f"m{seed}", padded)
    disk = SmallDisk(tmp_path / "cache", 16 * MIB)
    disk.is_real = disk.is_real and kind == "tmpfs"
    with (
        serving(tmp_path, models, "--refresh-seconds", "0.1", within=disk.within) as served,
        runtime_client(served.url) as client,
    ):

        def is_right(seed: int) -> bool:
            return predict(client, f"m{seed}") == pytest.approx(booster(seed).prediction, rel=1e-6)

        assert is_right(1)
        disk.fill(served.process.pid)
        for _ in range(3):
            with pytest.raises(ClientError) as refusal:
                predict(client, "m2")
            status = refusal.value.response["ResponseMetadata"]["HTTPStatusCode"]
            code = refusal.value.response["Error"]["Code"]
            assert (status, code) == (503, "ServiceUnavailable")
            assert "disk tier" in str(refusal.value)
            assert is_right(1)
        disk.free(served.process.pid)
        assert all(is_right(seed) for seed in (2, 3, 4, 1))  # more than fit on a tmpfs at once
        state = served.state()
        assert state["memory"]["reserved_bytes"] == state["memory"]["leaving_bytes"] == 0
        assert state["disk"]["used_bytes"] <= 16 * MIB
        assert served.stop() == 0
    left = [path for path in (tmp_path / "cache").rglob("*") if path.parent.name == "incoming"]
    assert left == []


@pytest.mark.timeout(60)
def test_a_disk_without_inodes_for_all_models_takes_each_in_turn(tmp_path: Path) -> None:
    models, seeds = tmp_path / "models", range(8)
    for seed in seeds:
        notes = {f"notes/{number}": b"" for number in range(40)}
        drop(models, f"m{seed}", {**booster(seed).members, **notes})
    disk = SmallDisk(tmp_path / "cache", 64 * MIB, inodes=320)
    with (
        serving(tmp_path, models, within=disk.within) as served,
        runtime_client(served.url, retries={"max_attempts": 0}) as client,
    ):
        for seed in (*seeds, *seeds):
            assert predict(client, f"m{seed}") == pytest.approx(booster(seed).prediction, rel=1e-6)
        state = served.state()
        assert state["memory"]["reserved_bytes"] == state["memory"]["leaving_bytes"] == 0
        if disk.is_real:
            assert 0 < state["disk"]["artifacts"] < len(seeds)

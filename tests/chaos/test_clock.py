"""The wall clock jumps: nothing is timed by it, so that answers, loads and evictions go on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import mme
from tests.engines import ask, drop, quiet, running_engine
from tests.models import booster

YEAR_SECONDS = 365 * 86_400.0
# Who may look at it: what people read, the order of use that outlives a restart, signatures; and
# how old a file is, which two looks a second apart say as well.
WALL_CLOCK = {
    "app/builtin.py", "app/view.py", "cache/explain.py", "front/connection.py",
    "front/dialects.py", "front/gate.py", "front/record.py", "front/usage_api.py",
    "front/watch.py", "logs.py", "store/disk_files.py", "store/s3_direct.py", "tracing.py",
    "usage/keeping.py",
}  # fmt: skip


def is_model(seed: int) -> object:
    return pytest.approx(booster(seed).prediction, rel=1e-6)


async def test_a_clock_that_jumps_changes_no_answer_and_holds_up_no_refresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, jumped_seconds = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: honest() + jumped_seconds[0])
    models = tmp_path / "models"
    for seed in (1, 2, 3):
        drop(models, f"m{seed}", booster(seed).members)
    async with running_engine(tmp_path, refresh_seconds=0.1) as engine:
        for seed, jump_seconds in ((1, 0.0), (2, -YEAR_SECONDS), (3, YEAR_SECONDS)):
            jumped_seconds[0] = jump_seconds
            assert await ask(engine, f"m{seed}") == is_model(seed)
            assert await ask(engine, "m1") == is_model(1)
        drop(models, "m1", booster(4).members)
        answers = []
        while not answers or answers[-1] != is_model(4):
            answers.append(await ask(engine, "m1"))
            assert answers[-1] in (is_model(1), is_model(4))
        await quiet(engine)


def test_only_what_is_told_or_signed_looks_at_the_wall_clock() -> None:
    root = Path(mme.__file__).parent
    looks = ("time.time(", "time.time)", "time.time,", "= time.time\n", "time_ns()", "now(UTC)")
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if any(look in path.read_text() for look in looks)
    }
    assert found == WALL_CLOCK

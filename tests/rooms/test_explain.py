"""Why a model is in memory or is not: asked of an engine to which it really happened."""

from __future__ import annotations

import os
import re
import signal

import pytest

from mme import ModelKey
from mme.cli.explain import sentences
from mme.errors import MmeError
from tests.engines import ask, drop, quiet, running_engine
from tests.eventually import eventually
from tests.models import booster


def told(engine, model):
    """What an operator reads, moments left out."""
    text = "\n".join(sentences(engine.explain(ModelKey(model))))
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "DATE", text)


def journal_is_the_ledger(engine):
    state = engine.state()
    answering = sum(m["bytes"] for m in state["models"] if m["state"] == "resident")
    assert state["events"][-1]["after_bytes"] == answering
    return True


@pytest.fixture
def models(tmp_path):
    for seed, name in enumerate(("a.tar.gz", "b.tar.gz", "tenant/c.tar.gz")):
        drop(tmp_path / "models", name, booster(seed).members)
    return tmp_path / "models"


async def noted_in_order(engine):
    kept = await engine.accesses()
    names = [kept["models"][number] for number in kept["numbers"]]
    assert names == ["a.tar.gz", "b.tar.gz", "a.tar.gz"]
    assert (kept["outcomes"], kept["eviction"]) == ("mmh", "lru")
    assert kept["milliseconds"] == sorted(kept["milliseconds"])
    sizes = {model["model"]: model["bytes"] for model in engine.state()["models"]}
    assert kept["bytes"] == [sizes["a.tar.gz"], sizes["b.tar.gz"]]


async def test_a_model_in_memory_tells_where_since_when_and_when_its_turn_to_go_is(
    tmp_path, models
):
    async with running_engine(tmp_path) as engine:
        assert engine.explain(ModelKey("a.tar.gz"))["state"] == "never"
        text = told(engine, "a.tar.gz")
        assert "not in memory: it was not asked for since the server started." in text
        assert "not on disk" in text
        for name in ("a.tar.gz", "b.tar.gz", "a.tar.gz"):
            await ask(engine, name)
        await noted_in_order(engine)
        known = engine.explain(ModelKey("a.tar.gz"))
        (copy,) = known["copies"]
        assert known["state"] == "resident"
        assert (copy["hits"], copy["worker"], copy["place_to_go"], copy["places"]) == (1, 0, 2, 2)
        assert known["on_disk_version"] == copy["version"]
        text = told(engine, "a.tar.gz")
        assert "a.tar.gz is in memory, in worker 0, since DATE" in text
        assert "When room is needed, it is number 2 of 2 to go, by lru." in text
        assert f"Version {copy['version']} is on disk" in text
        assert "loaded: asked for (0 B -> " in text
        engine.management.operated.pin(ModelKey("a.tar.gz"))
        assert "It is pinned, and not evicted." in told(engine, "a.tar.gz")


@pytest.mark.parametrize(
    ("eviction", "why"),
    [
        ("lru", r"least recently used of \d+"),
        ("gdsf", r"worth least of \d+: \d+ uses x \S+ s to load"),
    ],
)
async def test_an_evicted_model_tells_for_whom_and_by_which_rank(tmp_path, models, eviction, why):
    members = booster(1, trees=200, depth=6, dart=True).members  # of 0.2 MB
    for number in range(16):
        drop(models, f"{number}.tar.gz", members)
    async with running_engine(tmp_path, memory=1_500_000, eviction=eviction) as engine:
        for number in range(16):
            await ask(engine, f"{number}.tar.gz")
        await quiet(engine)
        gone = next(e["model"] for e in engine.state()["events"] if e["kind"] == "evicted")
        known = engine.explain(ModelKey(gone))
        assert (known["state"], known["copies"]) == ("evicted", [])
        event = known["last_event"]
        assert re.match(why, event["reason"])
        assert event["before_bytes"] - event["after_bytes"] == event["bytes"] > 0
        text = told(engine, gone)
        assert (
            f"it was evicted at DATE to make room for {event['for_whom']}; it was {why[:5]}" in text
        )
        assert "is on disk: a load of it fetches nothing." in text
        assert journal_is_the_ledger(engine)


async def test_what_failed_was_refused_or_is_absent_tells_its_cause(tmp_path, models):
    drop(models, "bad.tar.gz", {"xgboost-model": b"no model"})
    async with running_engine(tmp_path, failure_seconds=60, memory=1_000_000) as engine:
        for name in ("bad.tar.gz", "absent.tar.gz"):
            with pytest.raises(MmeError):
                await ask(engine, name)
        assert engine.explain(ModelKey("bad.tar.gz"))["state"] == "failed"
        text = told(engine, "bad.tar.gz")
        assert "it failed to load at DATE" in text
        assert "Failures in a row: 1. It is not tried again for " in text
        assert engine.explain(ModelKey("absent.tar.gz"))["state"] == "absent"
        assert "the store had no such object at DATE" in told(engine, "absent.tar.gz")
    async with running_engine(tmp_path, memory=1) as engine:
        with pytest.raises(MmeError):
            await ask(engine, "a.tar.gz")
        assert engine.explain(ModelKey("a.tar.gz"))["state"] == "refused"
        assert "there was no room for it at DATE: The model needs" in told(engine, "a.tar.gz")


async def test_what_was_unloaded_deleted_or_lost_tells_that(tmp_path, models):
    async with running_engine(tmp_path, refresh_seconds=0.2) as engine:
        await ask(engine, "a.tar.gz")
        await engine.management.operated.unload(ModelKey("a.tar.gz"))
        assert "it was unloaded at DATE, as it was asked to be." in told(engine, "a.tar.gz")
        await ask(engine, "b.tar.gz")
        (models / "b.tar.gz").unlink()

        async def is_gone():
            try:
                await ask(engine, "b.tar.gz")
            except MmeError:
                return True
            return False

        while not await is_gone():
            pass
        assert "the store had no such object at DATE" in told(engine, "b.tar.gz")
        kinds = [event["kind"] for event in engine.explain(ModelKey("b.tar.gz"))["events"]]
        assert kinds == ["loaded", "deleted"]
        await ask(engine, "tenant/c.tar.gz")
        os.kill(engine.state()["workers"][0]["pid"], signal.SIGKILL)
        await eventually(lambda: not engine.explain(ModelKey("tenant/c.tar.gz"))["copies"])
        assert "its worker ended at DATE" in told(engine, "tenant/c.tar.gz")
        assert journal_is_the_ledger(engine)

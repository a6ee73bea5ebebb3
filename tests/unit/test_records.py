"""What is recorded stays bounded, adds up, and answers for one model among ten thousand."""

from __future__ import annotations

import itertools

from mme.cache.records import Records


def ticking():
    return Records(itertools.count(1.0).__next__)


def test_each_event_begins_with_the_bytes_that_the_one_before_left():
    records = ticking()
    records.add("loaded", "a", 100, "asked for")
    records.add("loaded", "b", 50, "asked for")
    records.add("refused", "c", 0, "too large")
    records.add("evicted", "a", 100, "least recently used of 2", for_whom="c")
    told = records.describe()
    assert [(event["before_bytes"], event["after_bytes"]) for event in told] == [
        (0, 100),
        (100, 150),
        (150, 150),
        (150, 50),
    ]
    assert told[-1] == {
        "at": 4.0,
        "kind": "evicted",
        "model": "a",
        "bytes": 100,
        "reason": "least recently used of 2",
        "for_whom": "c",
        "before_bytes": 150,
        "after_bytes": 50,
    }


def test_the_last_of_a_model_is_known_after_the_ring_has_gone_round():
    records = ticking()
    records.add("evicted", "old", 1, "least recently used of 2", for_whom="new")
    for number in range(15_000):
        records.add("loaded", f"model {number}", 1, "asked for")
    assert records.of("old") == []
    assert records.last("old").for_whom == "new"
    assert records.is_complete
    assert len(records.describe()) == 500


def test_names_that_do_not_exist_flush_nothing_but_each_other():
    records = ticking()
    records.add("evicted", "old", 1, "least recently used of 2", for_whom="new")
    for number in range(20_000):
        records.add("absent", f"scan/{number}", 0, "no such object")
    assert [event["model"] for event in records.describe()] == ["old"]
    assert records.last("old").kind == "evicted"
    assert records.last("scan/19999").kind == "absent"
    assert records.last("scan/0") is None
    assert not records.is_complete


def test_of_two_last_events_the_later_one_is_the_last():
    records = ticking()
    records.add("deleted", "a", 1, "the object was deleted")
    records.add("absent", "a", 0, "no such object")
    assert records.last("a").kind == "absent"
    records.add("loaded", "a", 1, "asked for")
    assert records.last("a").kind == "loaded"


def test_a_models_own_events_are_its_latest_in_order():
    records = ticking()
    for number in range(30):
        records.add("loaded", "a", number, "asked for")
        records.add("loaded", "b", 1, "asked for")
    assert [event.bytes for event in records.of("a")] == list(range(10, 30))

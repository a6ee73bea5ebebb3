"""The counters of models, and what is shown and asked of them: no file, no loop."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mme.errors import (
    ArtifactUnavailable,
    InvalidRequest,
    LoadFailed,
    ModelNotReady,
    Overloaded,
    StoreUnavailable,
)
from mme.usage.account import Usage
from mme.usage.accounts import NOBODY, Accounts
from mme.usage.statement import Statement, read_window
from mme.usage.top import TopModels

HOUR = 3600


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def taken(accounts):
    accounts.settle(5000)
    return {usage.model: usage for usage in accounts.take(accounts.noted_count)}


def test_what_was_counted_is_taken_once():
    accounts = Accounts(Clock())
    account = accounts.enter("a", 10, 0.5)
    account.answered(3, 5)
    account.ran(0.25)
    assert taken(accounts)["a"] == Usage(
        "a", requests=1, compute_seconds=0.25, bytes_in=3, bytes_out=5, load_seconds=0.5, loads=1
    )
    assert taken(accounts) == {"a": Usage("a")}  # it still holds memory


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "take"]), st.integers(1, 9))))
def test_memory_is_charged_for_exactly_as_long_as_it_is_held(steps):
    clock, held, expected, charged = Clock(), [], 0, 0.0
    accounts = Accounts(clock)
    for step, amount in steps:
        clock.now += amount
        expected += sum(size for _, size in held) * amount
        if step == "enter":
            held.append((accounts.enter("a", amount, 0.0), amount))
        elif step == "leave" and held:
            accounts.leave(*held.pop())
        elif step == "take":
            charged += taken(accounts).get("a", Usage("a")).memory_byte_seconds
    charged += taken(accounts).get("a", Usage("a")).memory_byte_seconds
    assert charged == pytest.approx(expected)


def test_errors_are_told_apart_by_whose_fault_they_were():
    accounts = Accounts(Clock())
    accounts.enter("a", 1, 0.0)
    for error in (
        ArtifactUnavailable("b", "k", "missing"),
        LoadFailed("no"),
        Overloaded("full"),
        StoreUnavailable("down"),
        ValueError("ours"),
        GeneratorExit(),  # as a client that has gone
    ):
        accounts.failed("a", error, 1)
    usage = taken(accounts)["a"]
    assert (usage.requests, usage.bytes_in) == (6, 6)
    assert (usage.client_errors, usage.model_errors, usage.server_errors) == (2, 1, 3)


def test_invented_names_share_one_account_and_a_model_that_fails_to_load_has_its_own():
    accounts = Accounts(Clock())
    for number in range(1000):
        accounts.failed(f"invented-{number}", ArtifactUnavailable("b", "k", "missing"), 1)
        accounts.failed(f"slow-{number}", ModelNotReady("wait"), 1)
    accounts.failed("broken", LoadFailed("no"), 1)
    assert accounts.count == 2
    usages = taken(accounts)
    assert set(usages) == {NOBODY, "broken"}
    assert usages[NOBODY].requests == 2000


def test_a_model_that_left_is_forgotten_once_its_usage_was_taken():
    accounts = Accounts(Clock())
    for number in range(50_000):
        account = accounts.enter(str(number), 1, 0.1)
        account.answered(1, 1)
        accounts.leave(account, 1)
    assert len(taken(accounts)) == 50_000
    assert accounts.count == 0
    account.failed(LoadFailed.fault, 1)  # who was still at it is counted all the same
    assert taken(accounts)["49999"].model_errors == 1


def test_with_very_many_in_memory_they_are_settled_in_turns():
    clock = Clock()
    accounts = Accounts(clock)
    for number in range(12_000):
        accounts.enter(str(number), 1, 0.0)
    taken(accounts)
    clock.now += 10
    turns = [taken(accounts) for _ in range(3)]
    assert [len(turn) for turn in turns] == [5000, 5000, 5000]
    assert len(turns[0].keys() | turns[1].keys() | turns[2].keys()) == 12_000
    charged = sum(usage.memory_byte_seconds for turn in turns for usage in turn.values())
    assert charged == 12_000 * 10


def test_the_top_is_of_the_last_minutes_and_who_leaves_it_is_gone():
    top = TopModels(3)
    top.add([Usage(str(number), requests=number) for number in range(1, 101)], 5.0)
    assert [model.model for model in top.shown()] == ["100", "99", "98"]
    top.add([Usage("new", requests=1000), Usage(NOBODY, requests=9999)], 5.0)
    assert [model.model for model in top.shown()] == ["new", "100", "99"]
    top.add([], 3600.0)
    assert top.shown() == []


def test_the_top_counts_what_its_models_used_and_remembers_no_more_than_it_must():
    top = TopModels(2)
    for _ in range(3):
        usages = [Usage(str(n), requests=1, model_errors=1, compute_seconds=0.5) for n in range(50)]
        top.add([*usages, Usage("hot", requests=9, client_errors=2)], 1.0)
    assert (top.shown()[0].model, top.shown()[0].requests, top.shown()[0].errors) == ("hot", 27, 6)
    assert len(top._models) <= 20


@pytest.mark.parametrize(
    ("since", "expected"),
    [("90m", 8), ("1d", -14), ("2h", 8), ("36000", 10), ("1970-01-01T07:30:00Z", 7)],
)
def test_a_window_is_of_whole_hours_and_ends_with_this_one(since, expected):
    window = read_window({"since": since}, 10 * HOUR + 60)
    assert (window.since, window.until) == (max(0, expected) * HOUR, 11 * HOUR)


@pytest.mark.parametrize(
    "query",
    [
        {"since": "yesterday"},
        {"since": "1y"},
        {"until": "-5"},
        {"top": "0"},
        {"top": "1e3"},
        {"by": "model; DROP TABLE usage"},
        {"since": "1h", "until": "5h"},
        {"since": "9999-12-31T23:59:59-23:59"},
    ],
)
def test_a_window_that_is_none_is_refused(query):
    with pytest.raises(InvalidRequest):
        read_window(query, 1_800_000_000.0)


@given(st.text(max_size=40))
def test_any_text_is_a_window_or_refused(text):
    for name in ("since", "until", "top", "by"):
        try:
            window = read_window({name: text}, 1_800_000_000.0)
        except InvalidRequest:
            continue
        assert window.since <= window.until


def test_csv_gives_names_back_and_no_spreadsheet_a_formula():
    names = ["a,b", 'with "quotes"', "=1+1", "@x", "-2", ""]
    window = read_window({}, 1_800_000_000.0)
    statement = Statement(
        window=window, models=[Usage(name) for name in names], total=Usage(""), model_count=6
    )
    rows = list(csv.DictReader(io.StringIO(statement.as_csv(), newline="")))
    shown = [row["model"] for row in rows]
    assert shown == ["a,b", 'with "quotes"', "'=1+1", "'@x", "'-2", "(no model)"]

"""The verdicts of a comparison: medians, goals met and missed, and every load at which we lose."""

from __future__ import annotations

import math

import pytest

from load_tests.peers.verdicts import (
    ALL_RESIDENT,
    RIVALS,
    ROOM_FOR_HALF,
    judge,
    losses,
    memory_losses,
    work_out,
)
from load_tests.plan import Outcome
from load_tests.report import Row


def row(subject, mode, *, rate, p50=0.001, p99=0.002, number=1):
    latency = {"p50_seconds": p50, "p99_seconds": p99}
    outcome = Outcome(
        answered=rate, seconds=1.0, latency=latency if rate else {}, lateness={}, checked=rate,
        errors={}, first_wrong=None, processors={"server_seconds": 0.5},
    )  # fmt: skip
    return Row(subject=subject, mode=mode, round=number, outcome=outcome)


def words(*rows):
    return {verdict.goal: verdict.word for verdict in judge(work_out(rows))}


def test_figures_are_medians_of_the_rounds_and_warming_up_is_none():
    rates = {0: 9000, 1: 10, 2: 30, 3: 20}
    cells = work_out([row("mme", "a", rate=rate, number=number) for number, rate in rates.items()])
    assert cells["mme", "a"].per_second == 20


def test_a_round_without_a_right_answer_counts_as_none_a_second_and_endlessly_slow():
    rows = [row("mme", "a", rate=rate, number=number) for number, rate in enumerate((0, 9, 0), 1)]
    figures = work_out(rows)["mme", "a"]
    assert figures.per_second == 0
    assert figures.p50_ms == figures.p99_ms == figures.server_us == math.inf


def test_ours_without_an_answer_misses_its_goals_and_a_rival_without_one_is_nothing_to_beat():
    mode = "xgboost, 64 connections"
    goals = [f"{mode}: answers/s beside {name}, times" for name in RIVALS]
    rivals = [row(RIVALS[0], mode, rate=10), row(RIVALS[1], mode, rate=0)]
    found = words(row("mme", mode, rate=0), *rivals)
    assert [found[goal] for goal in goals] == ["missed", "not measured"]
    found = words(row("mme", ROOM_FOR_HALF, rate=0), row("mme", ALL_RESIDENT, rate=9))
    assert found["Zipf, room for half: p99 ms"] == "missed"


@pytest.mark.parametrize(("rate", "word"), [(5000, "met"), (4999, "missed")])
def test_a_throughput_goal_is_a_ratio_to_the_rival_in_the_same_run(rate, word):
    mode = "xgboost, 64 connections"
    rivals = [row(name, mode, rate=1000) for name in RIVALS]
    found = words(row("mme", mode, rate=rate), *rivals)
    assert [found[f"{mode}: answers/s beside {name}, times"] for name in RIVALS] == [word] * 2


@pytest.mark.parametrize(("p50", "word"), [(0.0006, "met"), (0.00061, "missed")])
def test_a_latency_goal_is_met_from_below(p50, word):
    mode = "xgboost, 1 connections"
    found = words(row("mme", mode, rate=9, p50=p50), row(RIVALS[0], mode, rate=9, p50=0.001))
    assert found[f"{mode}: p50 beside {RIVALS[0]}, times"] == word
    assert found[f"{mode}: p50 beside {RIVALS[1]}, times"] == "not measured"


@pytest.mark.parametrize(("rate", "p99", "word"), [(80, 0.045, "met"), (79, 0.046, "missed")])
def test_room_for_half_is_held_to_our_own_figure_and_to_a_bound(rate, p99, word):
    ours = row("mme", ROOM_FOR_HALF, rate=rate, p99=p99)
    found = words(ours, row("mme", ALL_RESIDENT, rate=100))
    assert found["Zipf, room for half: answers/s, times our own all resident"] == word
    assert found["Zipf, room for half: p99 ms"] == word


def test_without_the_rival_nothing_is_claimed():
    found = words(row("mme", "xgboost, 64 connections", rate=1_000_000))
    assert set(found.values()) == {"not measured"}


def test_every_load_at_which_a_peer_is_ahead_is_told_and_the_null_servers_are_no_peers():
    told = list(
        losses(
            work_out(
                [
                    row("mme", "a", rate=100, p99=0.002),
                    row("null server", "a", rate=900, p99=0.001),
                    row("generator's ceiling", "a", rate=9000, p99=0.0001),
                    row("fast", "a", rate=101, p99=0.003),
                    row("steady", "a", rate=99, p99=0.001),
                    row("slow", "a", rate=99, p99=0.003),
                    row("soon", "a", rate=99, p50=0.0009, p99=0.003),
                    row("fast", "b", rate=101),
                ]
            )
        )
    )
    assert told == [
        "a: fast 101/s, ours 100/s",
        "a: steady p99 1.0 ms, ours 2.0 ms",
        "a: soon p50 0.90 ms, ours 1.00 ms",
    ]


def test_a_peer_that_holds_clearly_less_memory_is_told_and_a_null_server_is_not():
    held = {"mme": 100.0, "small": 94.0, "alike": 96.0, "null server": 9.0}
    told = list(memory_losses({"warm models": held, "Zipf": {"small": 9.0}}))
    assert told == ["memory, warm models: small 94 MiB, ours 100 MiB"]

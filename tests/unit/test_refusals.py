"""Refusals are told at once while few are; beyond that one after the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mme.front.refusals import AT_ONCE, MOST_SECONDS, PER_SECOND, Refusals


def test_few_are_told_at_once_and_the_rest_at_an_even_pace():
    refusals = Refusals()
    waits = [refusals.wait_seconds(100.0) for _ in range(AT_ONCE + 100)]
    assert waits[: AT_ONCE + 1] == pytest.approx([0.0] * (AT_ONCE + 1), abs=1e-9)
    later = [number / PER_SECOND for number in range(1, 100)]
    assert waits[AT_ONCE + 1 :] == pytest.approx(later, abs=1e-9)


def test_nobody_waits_for_ever():
    refusals = Refusals()
    assert max(refusals.wait_seconds(100.0) for _ in range(20_000)) <= MOST_SECONDS
    assert refusals.wait_seconds(100.0 + MOST_SECONDS + 1.0) == 0.0


@given(gaps=st.lists(st.floats(0, 0.01), min_size=1, max_size=1000))
def test_no_more_are_told_in_any_second_than_the_pace_and_what_goes_at_once(gaps):
    refusals, now, told = Refusals(), 100.0, []
    for gap in gaps:
        now += gap
        told.append(now + refusals.wait_seconds(now))
    for at in told[:: len(told) // 20 + 1]:
        assert sum(at <= each < at + 1.0 for each in told) <= PER_SECOND + AT_ONCE + 2

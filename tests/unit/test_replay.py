"""A replay gives what can be worked out by hand, and what a plain simulation gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mme.cache.replay import Trace, replay


def trace(text, sizes=None, seconds=None):
    numbers = ["abcdefgh".index(letter) for letter in text]
    return Trace(numbers=numbers, sizes_bytes=sizes or [1] * 8, load_seconds=seconds or [1.0] * 8)


def test_a_scan_of_one_more_than_fits_never_hits_under_lru():
    found = replay(trace("abcabcabc"), 2, "lru")
    assert (found.hits, found.loads, found.evictions, found.load_seconds) == (0, 9, 7, 9.0)
    assert replay(trace("abcabcabc"), 3, "lru").hits == 6


def test_gdsf_keeps_the_dear_model_that_lru_reloads():
    dear = trace("abcabcabc", seconds=[10.0, 1, 1, 1, 1, 1, 1, 1])
    lru, gdsf = replay(dear, 2, "lru"), replay(dear, 2, "gdsf")
    assert (lru.load_seconds, gdsf.load_seconds) == (36.0, 16.0)
    assert gdsf.hits == 2


def test_what_is_larger_than_the_budget_is_refused_and_evicts_nobody():
    found = replay(trace("abab", sizes=[1, 9, 1, 1, 1, 1, 1, 1]), 8, "lru")
    assert (found.hits, found.loads, found.refused, found.misses) == (1, 1, 2, 3)


@given(
    text=st.text("abcdefgh", max_size=60),
    sizes=st.lists(st.integers(1, 5), min_size=8, max_size=8),
    budget=st.integers(1, 12),
)
def test_lru_hits_what_a_plain_list_of_recent_models_hits(text, sizes, budget):
    recent: list[int] = []
    hits = 0
    replayed = trace(text, sizes=sizes)
    for number in replayed.numbers:
        if number in recent:
            hits += 1
            recent.remove(number)
        elif sizes[number] > budget:
            continue
        else:
            while sum(sizes[kept] for kept in recent) + sizes[number] > budget:
                recent.pop(0)
        recent.append(number)
    assert replay(replayed, budget, "lru").hits == hits


@given(
    text=st.text("abcdefgh", max_size=60),
    eviction=st.sampled_from(["lru", "gdsf"]),
    budget=st.integers(8, 100),
)
def test_a_cache_that_holds_all_loads_each_model_once(text, eviction, budget):
    found = replay(trace(text), budget, eviction)
    assert found.loads == len(set(text))
    assert (found.requests, found.evictions) == (len(text), 0)

"""What is kept is known by key, up to a limit; who was evicted the longest ago is forgotten."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from mme.cache.entry import Entry
from mme.cache.kept import Kept
from mme.domain import ArtifactVersion, ModelKey


def entry(name: str, size_bytes: int) -> Entry:
    version = ArtifactVersion(location="x/", key=ModelKey(name), etag="1", size_bytes=1)
    return Entry(
        version=version, loaded=SimpleNamespace(resident_bytes=size_bytes), unpacked_bytes=1,
        loaded_at=0.0, used_at=0.0, check_at=0.0, fresh_until=0.0,
    )  # fmt: skip


def test_who_was_evicted_the_longest_ago_is_forgotten_first():
    kept, a, b, c = Kept(), entry("a", 40), entry("b", 40), entry("c", 40)
    for each in (a, b, c):
        kept.put(each, 100)
    assert [kept.get(ModelKey(name)) for name in "abc"] == [None, b, c]
    kept.put(b, 100)
    kept.put(a, 100)
    assert [kept.get(ModelKey(name)) for name in "abc"] == [a, b, None]


def test_who_is_larger_than_the_limit_is_not_known_and_a_smaller_limit_forgets_the_rest():
    kept, small = Kept(), entry("a", 40)
    kept.put(small, 100)
    kept.put(entry("b", 41), 80)
    assert kept.get(small.key) is None
    kept.put(entry("c", 1), 0)
    assert len(kept) == 0


MOVES = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 60)), max_size=40)


@given(MOVES)
def test_whatever_comes_and_goes_what_is_known_is_the_newest_and_within_the_limit(moves):
    kept, known = Kept(), {}
    for name, size in moves:  # of no size: it is dropped
        known.pop(name, None)
        if size:
            known[name] = entry(name, size)
            kept.put(known[name], 100)
        else:
            kept.drop(ModelKey(name))
        while sum(each.loaded.resident_bytes for each in known.values()) > 100:
            known.pop(next(iter(known)))
        assert len(kept) == len(known)
        assert all(kept.get(ModelKey(name)) is each for name, each in known.items())

"""Which models another container may keep."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from mme.containers.registry import Registry
from mme.domain import ArtifactVersion, ModelKey


def version(target, etag="1"):
    return ArtifactVersion(location="s3://b/", key=ModelKey(target), etag=etag, size_bytes=1)


def loaded(registry, target, size_bytes=1, etag="1"):
    entry = registry.begin(ModelKey(target), version(target, etag), size_bytes)
    registry.answer(entry)
    return entry


@pytest.fixture
def registry():
    return Registry(3, 100)


def test_the_least_recently_used_idle_model_goes_first(registry):
    a, b, c = (loaded(registry, name) for name in "abc")
    registry.hold(a)
    registry.unhold(a)
    assert registry.victims(1) == [b]
    registry.hold(b)
    assert registry.victims(1) == [c]


def test_as_many_go_as_make_room_and_no_more(registry):
    a, b = loaded(registry, "a", 40), loaded(registry, "b", 40)
    assert registry.victims(20) == []
    assert registry.victims(30) == [a]
    assert registry.victims(90) == [a, b]


def test_nothing_goes_where_even_all_idle_models_would_not_make_room(registry):
    loaded(registry, "a", 40)
    registry.hold(loaded(registry, "b", 40))
    assert registry.victims(90) == []


def test_what_is_leaving_already_is_counted_as_room_to_come_but_not_as_room(registry):
    a, _b = loaded(registry, "a", 60), loaded(registry, "b", 40)
    registry.leave(a)
    assert not registry.fits(50)
    assert registry.victims(50) == []
    registry.drop(a)
    assert registry.fits(50)


def test_a_new_version_answers_and_gives_back_the_former_one(registry):
    old = loaded(registry, "a", etag="1")
    new = registry.begin(ModelKey("a"), version("a", "2"), 1)
    assert registry.current(ModelKey("a")) is old
    assert registry.answer(new) is old
    assert registry.current(ModelKey("a")) is new
    assert registry.others(new) == [old]
    registry.drop(old)
    assert registry.current(ModelKey("a")) is new


def test_for_an_unknown_need_at_least_one_idle_model_is_given(registry):
    a, b = loaded(registry, "a", 10), loaded(registry, "b", 10)
    assert registry.idle() == [a]
    assert registry.idle(11) == [a, b]
    registry.hold(a)
    assert registry.idle(999) == [b]


class Container(RuleBasedStateMachine):
    """Any order of loads, requests and unloads, as the platform makes them."""

    entries = Bundle("entries")

    def __init__(self):
        super().__init__()
        self.registry = Registry(3, 100)
        self.number = 0

    @rule(target=entries, size_bytes=st.integers(0, 120), etag=st.sampled_from("12"))
    def load(self, size_bytes, etag):
        self.number += 1
        name = ModelKey(f"m{self.number % 4}")
        known = self.registry.find(version(name, etag).digest)
        if known is not None:
            return known
        for victim in self.registry.victims(size_bytes):
            assert victim.in_flight == 0
            self.registry.leave(victim)
            self.registry.drop(victim)
        if self.registry.fits(size_bytes):
            return self.registry.begin(name, version(name, etag), size_bytes)
        busy = any(not entry.is_idle for entry in self.registry)
        assert busy or not self.registry.can_ever_hold(size_bytes)
        return None

    @rule(entry=entries)
    def arrive(self, entry):
        if entry and self.registry.has(entry) and entry.state == "loading":
            former = self.registry.answer(entry)
            assert former is None or former.target == entry.target

    @rule(entry=entries)
    def request(self, entry):
        if entry and self.registry.current(entry.target) is entry:
            self.registry.hold(entry)

    @rule(entry=entries)
    def end_of_request(self, entry):
        if entry and entry.in_flight:
            self.registry.unhold(entry)

    @rule(wanted_bytes=st.integers(0, 120))
    def make_any_room(self, wanted_bytes):
        for victim in self.registry.idle(wanted_bytes):
            assert victim.in_flight == 0
            self.registry.drop(victim)

    @invariant()
    def is_within_its_limits(self):
        assert len(self.registry) <= 3
        assert self.registry.size_bytes <= 100

    @invariant()
    def what_answers_is_loaded(self):
        for entry in self.registry:
            current = self.registry.current(entry.target)
            assert current is None or (current.state == "loaded" and self.registry.has(current))


TestContainer = Container.TestCase
TestContainer.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

"""Each policy chooses what its rule says, whatever happened before, and soon."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mme.cache.ledger import Admit, Evict, Ledger
from mme.cache.policy import POLICIES, GreedyDualSizeFrequency, LeastRecentlyUsed

KEYS = st.sampled_from("abcdef")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), KEYS, st.integers(1, 50), st.integers(0, 20)),
        st.tuples(st.sampled_from(["use", "hold", "free", "remove"]), KEYS),
        st.tuples(st.just("choose")),
    ),
    max_size=80,
)


class Reference:
    """The rules as they are written in the papers: a look at everyone for each choice."""

    def __init__(self, eviction):
        self.eviction = eviction
        self.clock, self.turn = 0.0, 0
        self.models = {}  # key: [uses, cost, size, value, turn]
        self.held = set()

    def use(self, key):
        model = self.models[key]
        self.turn += 1
        model[0] += 1
        model[3] = self.clock + model[0] * model[1] / model[2]
        model[4] = self.turn

    def free(self, key):
        self.held.discard(key)
        if self.eviction == "lru":  # in use until now
            self.turn += 1
            self.models[key][4] = self.turn

    def rank(self, key):
        value, turn = self.models[key][3:]
        return turn if self.eviction == "lru" else (value, turn)

    def order(self):
        return sorted(set(self.models) - self.held, key=self.rank)

    def choose(self):
        key = self.order()[0]
        self.clock = self.models.pop(key)[3]
        return key


@pytest.mark.parametrize("eviction", POLICIES)
@settings(max_examples=200, deadline=None)
@given(steps=STEPS)
def test_a_policy_chooses_as_its_rule_does(eviction, steps):
    policy, reference = POLICIES[eviction](), Reference(eviction)
    for step in steps:
        match step:
            case ("admit", key, size, cost) if key not in reference.models:
                policy.admitted(key, size, cost)
                reference.models[key] = [0, cost, size, 0.0, 0]
                reference.use(key)
            case ("use", key) if key in reference.models:
                policy.used(key)
                reference.use(key)
            case ("hold", key) if key in set(reference.models) - reference.held:
                policy.held(key)
                reference.held.add(key)
            case ("free", key) if key in reference.held:
                policy.freed(key)
                reference.free(key)
            case ("remove", key) if key in reference.models:
                policy.removed(key)
                del reference.models[key]
                reference.held.discard(key)
            case ("choose",) if reference.order():
                assert policy.choose()[0] == reference.choose()
        assert policy.order() == reference.order()
        assert policy.first() == next(iter(reference.order()), None)


@pytest.mark.parametrize("eviction", POLICIES)
def test_nobody_is_chosen_where_all_are_held(eviction):
    policy = POLICIES[eviction]()
    policy.admitted("a", 1, 1.0)
    policy.held("a")
    with pytest.raises(LookupError):
        policy.choose()
    policy.freed("a")
    assert policy.choose()[0] == "a"


def test_lru_passes_over_what_was_used_since():
    policy: LeastRecentlyUsed[str] = LeastRecentlyUsed()
    for key in "abc":
        policy.admitted(key, 1, 1.0)
    policy.used("a")
    assert [policy.choose() for _ in range(3)] == [
        ("b", "least recently used of 3"),
        ("c", "least recently used of 2"),
        ("a", "least recently used of 1"),
    ]


def test_gdsf_keeps_the_small_the_slow_to_load_and_the_often_used():
    policy: GreedyDualSizeFrequency[str] = GreedyDualSizeFrequency()
    policy.admitted("small", 10, 1.0)
    policy.admitted("slow", 100, 10.0)
    policy.admitted("used", 100, 1.0)
    for _ in range(9):
        policy.used("used")
    policy.admitted("plain", 100, 1.0)
    key, why = policy.choose()
    assert key == "plain"
    assert why == "worth least of 4: 1 uses x 1 s to load / 100 bytes"


def test_gdsf_lets_go_of_what_was_once_popular():
    policy: GreedyDualSizeFrequency[str] = GreedyDualSizeFrequency()
    policy.admitted("once popular", 1, 1.0)
    for _ in range(9):
        policy.used("once popular")
    chosen = []
    for number in range(40):  # of equals, each used twice, the least recently used goes
        policy.admitted(f"newcomer {number}", 1, 1.0)
        policy.used(f"newcomer {number}")
        if number >= 3:
            chosen.append(policy.choose()[0])
    assert "once popular" in chosen
    assert chosen[0] == "newcomer 0"


@pytest.mark.parametrize("eviction", POLICIES)
def test_ten_thousand_residents_most_of_them_held_do_not_slow_an_eviction(eviction):
    count, churned = 10_000, 2_000
    ledger: Ledger[int] = Ledger(count, POLICIES[eviction]())
    for key in range(count):
        assert ledger.reserve(key, 1) == Admit()
        ledger.commit(key, 1.0)
        if key < count - 100:
            ledger.hold(key)
    began = time.process_time()
    for key in range(count, count + churned):
        ledger.hold(key % 100)  # a hit, as a lease makes it
        ledger.touch(key % 100)
        ledger.unhold(key % 100)
        decision = ledger.reserve(key, 1)
        assert isinstance(decision, Evict)
        assert decision.victims[0] >= count - 100, "a held one was chosen"
        ledger.left(decision.victims[0])
        assert ledger.reserve(key, 1) == Admit()
        ledger.commit(key, 1.0)
    assert (time.process_time() - began) / churned < 0.001  # a scan of all takes longer than that


@pytest.mark.parametrize("eviction", POLICIES)
def test_models_that_come_and_go_unchosen_leave_nothing_behind(eviction):
    policy = POLICIES[eviction]()
    for number in range(10_000):
        policy.admitted(number, 1, 1.0)
        policy.removed(number)
    assert policy.order() == []
    assert len(getattr(policy, "_heap", ())) < 200

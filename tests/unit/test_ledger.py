"""The ledger keeps its sum under the budget, whatever is asked, and evicts nothing held."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mme.cache.ledger import Admit, Evict, Ledger, Refusal, Refuse
from mme.cache.policy import POLICIES


def resident(ledger: Ledger[str], key: str, size: int) -> None:
    assert ledger.reserve(key, size) == Admit()
    ledger.commit(key)


def test_the_least_recently_used_leaves_first():
    ledger: Ledger[str] = Ledger(100)
    for key in "abc":
        resident(ledger, key, 30)
    ledger.touch("a")
    assert ledger.reserve("d", 35) == Evict(("b",))


def test_a_victim_stays_charged_until_it_has_left():
    ledger: Ledger[str] = Ledger(100)
    resident(ledger, "a", 80)
    assert ledger.reserve("b", 80) == Evict(("a",))
    assert ledger.charged_bytes == 80
    assert ledger.reserve("b", 80) == Evict(())
    ledger.left("a")
    assert ledger.reserve("b", 80) == Admit()


def test_a_held_model_is_passed_over():
    ledger: Ledger[str] = Ledger(100)
    resident(ledger, "a", 40)
    resident(ledger, "b", 40)
    ledger.hold("a")
    assert ledger.reserve("c", 60) == Evict(("b",))


def test_where_nothing_may_be_evicted_a_full_ledger_refuses_and_waits_only_for_what_leaves():
    ledger: Ledger[str] = Ledger(100)
    resident(ledger, "a", 80)
    assert ledger.reserve("b", 40, may_evict=False) == Refuse(Refusal.FULL)
    assert ledger.is_resident("a")
    assert ledger.leave("a")
    assert ledger.reserve("b", 40, may_evict=False) == Evict(())
    ledger.left("a")
    assert ledger.reserve("b", 40, may_evict=False) == Admit()


def test_everything_held_is_a_refusal_that_evicts_nobody():
    ledger: Ledger[str] = Ledger(100)
    resident(ledger, "a", 50)
    resident(ledger, "b", 50)
    ledger.hold("a")
    assert ledger.reserve("c", 60) == Refuse(Refusal.IN_USE)
    assert ledger.is_resident("b")


def test_larger_than_the_budget_is_refused_at_once():
    assert Ledger[str](100).reserve("a", 101) == Refuse(Refusal.TOO_LARGE)


def test_a_model_held_while_it_loads_is_held_once_it_is_resident():
    ledger: Ledger[str] = Ledger(100)
    ledger.reserve("a", 60)
    ledger.hold("a")
    ledger.commit("a")
    assert ledger.reserve("b", 60) == Refuse(Refusal.IN_USE)
    ledger.unhold("a")
    assert ledger.reserve("b", 60) == Evict(("a",))


def test_a_reservation_grows_and_shrinks_in_place():
    ledger: Ledger[str] = Ledger(100)
    ledger.reserve("a", 60)
    assert ledger.reserve("a", 90) == Admit()
    assert ledger.reserved_bytes == 90
    assert ledger.reserve("a", 10) == Admit()
    assert ledger.reserved_bytes == 10


def test_a_key_that_is_leaving_is_not_reserved_again_before_it_has_left():
    ledger: Ledger[str] = Ledger(100)
    resident(ledger, "a", 10)
    assert ledger.leave("a")
    assert ledger.reserve("a", 10) == Evict(())
    ledger.left("a")
    assert ledger.reserve("a", 10) == Admit()


def test_a_lost_worker_gives_everything_back_and_its_holds_stay_returnable():
    ledger: Ledger[str] = Ledger(100)
    resident(ledger, "a", 60)
    ledger.hold("a")
    ledger.lose("a")
    assert ledger.charged_bytes == 0
    resident(ledger, "a", 70)  # loaded again while the old lease is still out
    assert ledger.reserve("b", 50) == Refuse(Refusal.IN_USE)
    ledger.unhold("a")
    assert ledger.reserve("b", 50) == Evict(("a",))


def test_a_shrinking_budget_evicts_what_is_over_it_but_nothing_held():
    ledger: Ledger[str] = Ledger(100)
    for key in "abc":
        resident(ledger, key, 30)
    ledger.hold("a")
    assert ledger.shrink(40) == ("b", "c")
    assert ledger.shrink(10) == ()


def test_who_is_displaced_stays_charged_until_it_is_taken_over():
    ledger: Ledger[str] = Ledger(100)
    for key in "abc":
        resident(ledger, key, 30)
    assert ledger.displace(10, may_evict=True, spare_free=False) == ()
    assert ledger.displace(40, may_evict=True, spare_free=False) == ("a",)
    assert ledger.charged_bytes == 90
    assert ledger.why_evicted("a")
    ledger.take_over("d", 40, ("a",))
    assert (ledger.reserved_bytes, ledger.resident_bytes, ledger.leaving_bytes) == (40, 60, 0)
    ledger.commit("d")
    assert ledger.displace(70, may_evict=True, spare_free=False) == ("b", "c", "d")


def test_what_is_free_can_be_spared_from_who_comes_at_once():
    ledger: Ledger[str] = Ledger(100)
    resident(ledger, "a", 30)
    assert ledger.displace(10, may_evict=True, spare_free=True) == ("a",)
    ledger.take_over("b", 10, ("a",))
    assert ledger.charged_bytes == 10
    assert ledger.displace(10, may_evict=True, spare_free=True) is None
    assert ledger.displace(91, may_evict=True, spare_free=False) is None
    assert ledger.displace(90, may_evict=False, spare_free=False) == ()


def test_nobody_held_is_displaced_and_where_that_is_not_enough_nobody_at_all():
    ledger: Ledger[str] = Ledger(100)
    resident(ledger, "a", 50)
    resident(ledger, "b", 40)
    ledger.hold("a")
    assert ledger.displace(51, may_evict=True, spare_free=False) is None
    assert ledger.displace(20, may_evict=False, spare_free=False) is None
    assert (ledger.resident_bytes, ledger.leaving_bytes) == (90, 0)
    assert ledger.displace(50, may_evict=True, spare_free=False) == ("b",)


def test_a_ledger_over_a_shrunken_budget_makes_up_for_that_first():
    ledger: Ledger[str] = Ledger(100)
    for key in "abc":
        resident(ledger, key, 30)
        ledger.hold(key)
    assert ledger.shrink(80) == ()
    for key in "abc":
        ledger.unhold(key)
    assert ledger.displace(25, may_evict=True, spare_free=True) == ("a", "b")


def test_giving_back_a_lease_that_was_never_taken_is_an_error():
    with pytest.raises(KeyError):
        Ledger[str](1).unhold("a")


KEYS = st.sampled_from("abcdef")


class LedgerMachine(RuleBasedStateMachine):
    """Any sequence of what the cache may ask; a model of the states is kept beside it."""

    eviction = "lru"

    def __init__(self) -> None:
        super().__init__()
        self.ledger: Ledger[str] = Ledger(100, POLICIES[self.eviction]())
        self.states: dict[str, tuple[str, int]] = {}
        self.holds: dict[str, int] = {}

    def evicted(self, victims: tuple[str, ...]) -> None:
        for victim in victims:
            assert not self.holds.get(victim), "a held model was evicted"
            state, size = self.states[victim]
            assert state == "resident"
            assert self.ledger.why_evicted(victim)
            self.states[victim] = ("leaving", size)

    @rule(key=KEYS, size=st.integers(1, 120))
    def reserve(self, key: str, size: int) -> None:
        if self.states.get(key, ("reserved", 0))[0] != "reserved":
            return
        match self.ledger.reserve(key, size):
            case Admit():
                self.states[key] = ("reserved", size)
            case Evict(victims):
                self.evicted(victims)

    @rule(key=KEYS, size=st.integers(1, 120), may_evict=st.booleans(), spare_free=st.booleans())
    def recall(self, key: str, size: int, may_evict: bool, spare_free: bool) -> None:
        if key in self.states:
            return
        before, free = (
            dict(self.states),
            max(0, self.ledger.budget_bytes - self.ledger.charged_bytes),
        )
        victims = self.ledger.displace(size, may_evict=may_evict, spare_free=spare_free)
        if victims is None:
            return  # and the invariants say that nothing has changed
        assert may_evict or not victims
        self.evicted(victims)
        if key in self.states or (len(victims) + size) % 3 == 0:  # in different workers: they leave
            return
        self.ledger.take_over(key, size, victims)
        gone = sum(before[victim][1] for victim in victims)
        for victim in victims:
            del self.states[victim]
        self.states[key] = ("reserved", size)
        if spare_free:
            assert gone >= size
            left = self.ledger.budget_bytes - self.ledger.charged_bytes
            assert max(0, left) >= free

    @rule(key=KEYS, cost=st.integers(0, 9))
    def commit(self, key: str, cost: int) -> None:
        if self.states.get(key, ("",))[0] == "reserved":
            self.ledger.commit(key, cost)
            self.states[key] = ("resident", self.states[key][1])

    @rule(key=KEYS)
    def release(self, key: str) -> None:
        if self.states.get(key, ("",))[0] == "reserved":
            self.ledger.release(key)
            del self.states[key]

    @rule(key=KEYS)
    def hold(self, key: str) -> None:
        if self.states.get(key, ("",))[0] in {"reserved", "resident"}:
            self.ledger.hold(key)
            self.holds[key] = self.holds.get(key, 0) + 1

    @rule(key=KEYS)
    def unhold(self, key: str) -> None:
        if self.holds.get(key):
            self.ledger.unhold(key)
            self.holds[key] -= 1

    @rule(key=KEYS)
    def touch(self, key: str) -> None:
        if self.states.get(key, ("",))[0] == "resident":
            self.ledger.touch(key)

    @rule(key=KEYS)
    def leave(self, key: str) -> None:
        resident_and_free = self.states.get(key, ("",))[0] == "resident" and not self.holds.get(key)
        assert self.ledger.leave(key) == resident_and_free
        if resident_and_free:
            self.states[key] = ("leaving", self.states[key][1])

    @rule(key=KEYS)
    def left(self, key: str) -> None:
        if self.states.get(key, ("",))[0] == "leaving":
            self.ledger.left(key)
            del self.states[key]

    @rule(key=KEYS)
    def lose(self, key: str) -> None:
        self.ledger.lose(key)
        self.states.pop(key, None)

    @rule(budget=st.integers(1, 150))
    def set_budget(self, budget: int) -> None:
        self.evicted(self.ledger.shrink(budget))
        held = sum(
            size
            for key, (state, size) in self.states.items()
            if state == "reserved" or (state == "resident" and self.holds.get(key))
        )
        assert self.ledger.reserved_bytes + self.ledger.resident_bytes <= max(budget, held)
        self.excess = max(0, self.ledger.charged_bytes - budget)

    excess = 0

    @invariant()
    def the_sum_is_what_the_states_say(self) -> None:
        sums = {"reserved": 0, "resident": 0, "leaving": 0}
        for state, size in self.states.values():
            sums[state] += size
        assert sums == {
            "reserved": self.ledger.reserved_bytes,
            "resident": self.ledger.resident_bytes,
            "leaving": self.ledger.leaving_bytes,
        }

    @invariant()
    def the_sum_is_under_the_budget_but_for_what_a_shrinking_one_left(self) -> None:
        over = self.ledger.charged_bytes - self.ledger.budget_bytes
        assert over <= self.excess, "something was admitted over the budget"
        self.excess = max(0, over)

    @invariant()
    def the_order_is_of_those_that_may_go(self) -> None:
        free = {k for k, (state, _) in self.states.items() if state == "resident"}
        free -= {key for key, count in self.holds.items() if count}
        assert set(self.ledger.order()) == free


class GdsfLedgerMachine(LedgerMachine):
    """The same, whoever it is that goes first."""

    eviction = "gdsf"


LedgerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestLedgerMachine = LedgerMachine.TestCase
GdsfLedgerMachine.TestCase.settings = LedgerMachine.TestCase.settings
TestGdsfLedgerMachine = GdsfLedgerMachine.TestCase

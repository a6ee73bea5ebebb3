"""A flood is held to what leaves the server room; nobody else ever is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mme.workers.pacing import RELEASE_SECONDS, UNPACED, Pacer

STEP_SECONDS = 0.001
OTHERS = tuple(f"other {number}" for number in range(50))


class Server:
    """An event loop that wants a core for so long a request, and tenants that ask at a rate."""

    def __init__(
        self,
        limit: float = 0.6,
        cost_seconds: float = 1e-4,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.changes: list[str | None] = []
        self.had: Counter[str] = Counter()
        self.now = 100.0
        self._cost_seconds, self._wanted = cost_seconds, 0.0
        self._owed: Counter[str] = Counter()
        self.pacer = Pacer(weights or {}, limit, lambda: self._wanted, self.changes.append)

    def run(self, seconds: float, rates: Mapping[str, float]) -> Mapping[str, float]:
        """What each tenant got a second, who asks so many; what it did not get waits."""
        self.had.clear()
        for _ in range(round(seconds / STEP_SECONDS)):
            self.now += STEP_SECONDS
            for tenant, rate in rates.items():
                self._owed[tenant] += rate * STEP_SECONDS
                count = min(int(self._owed[tenant]), self.pacer.room(tenant, self.now))
                if count:
                    self._owed[tenant] -= count
                    self.had[tenant] += count
                    self._wanted += count * self._cost_seconds
                    self.pacer.took(tenant, count, self.now)
        return {tenant: count / seconds for tenant, count in self.had.items()}

    def others(self, per_second: float) -> dict[str, float]:
        return dict.fromkeys(OTHERS, per_second)


def test_a_flood_goes_on_as_far_as_the_server_keeps_room():
    server = Server()
    server.run(2, {"flood": 9000, **server.others(20)})
    got = server.run(2, {"flood": 9000, **server.others(20)})
    assert server.changes == ["flood"]
    assert got["flood"] + 1000 == pytest.approx(6000, rel=0.1)  # six tenths of 10,000/s
    assert sum(got.values()) - got["flood"] == pytest.approx(1000, rel=0.02)


def test_who_asks_alone_is_not_held():
    server = Server()
    got = server.run(2, {"flood": 9900})
    assert (server.changes, got["flood"]) == ([], pytest.approx(9900, rel=0.01))


def test_nobody_is_held_while_there_is_room():
    server = Server()
    got = server.run(2, {"flood": 4500, **server.others(20)})
    assert (server.changes, got["flood"]) == ([], pytest.approx(4500, rel=0.01))


def test_nobody_is_held_where_that_is_off():
    server = Server(limit=1.0)
    server.run(2, {"flood": 9900, **server.others(20)})
    assert server.changes == []


def test_uneven_load_is_no_flood():
    server = Server()
    rates = {name: 2400 / (number + 1) ** 1.1 for number, name in enumerate(OTHERS)}
    server.run(2, rates)
    assert server.changes == []


def test_a_few_tenants_are_no_crowd_to_protect():
    server = Server()
    server.run(2, {"large": 8000, "small": 500, "smaller": 100})
    assert server.changes == []


def test_who_weighs_much_is_due_much():
    server = Server(weights={"flood": 40.0})
    server.run(2, {"flood": 9000, **server.others(20)})
    assert server.changes == []


def test_a_flood_gets_some_times_its_due_even_where_others_fill_the_server():
    server = Server()
    rates = {"flood": 9000, **server.others(20)}
    server.run(1, rates)
    rates |= server.others(140)  # 7,000/s of them: more than there is room for
    server.run(2, rates)
    got = server.run(2, rates)
    assert got["flood"] == pytest.approx(3 * sum(got.values()) / 51, rel=0.1)


@pytest.mark.parametrize("rates", [{"flood": 100, "others": 20}, {"flood": 9000, "others": 0}])
def test_it_is_free_again_when_it_stops_or_the_others_do(rates):
    server = Server()
    server.run(2, {"flood": 7000, **server.others(20)})
    assert server.changes == ["flood"]
    server._owed.clear()  # what waited was refused meanwhile
    server.run(4, {"flood": rates["flood"], **server.others(rates["others"])})
    assert server.changes == ["flood", None]


def test_what_was_seen_before_a_quiet_time_says_nothing_of_now():
    server = Server()
    server.run(1, {"flood": 5000, **server.others(20)})
    server.now += 10
    server.run(0.2, {"flood": 9000, **server.others(20)})
    assert server.changes == []


def test_who_was_held_is_told_for_a_second_even_when_nobody_asks_any_more():
    server = Server()
    server.run(2, {"flood": 9000, **server.others(20)})
    assert server.pacer.held_lately(server.now + 0.9) == "flood"
    assert server.pacer.held_lately(server.now + 1.1) is None


def test_a_pace_does_not_outlast_a_quiet_time():
    server = Server()
    server.run(2, {"flood": 9000, **server.others(20)})
    server.now += 10
    server.run(0.1, server.others(20))
    assert server.changes == ["flood", None]


def test_what_waits_for_its_pace_takes_so_long():
    server = Server()
    server.run(3, {"flood": 9000, **server.others(20)})
    assert server.pacer.drain_seconds("flood", 5000) == pytest.approx(1.0, rel=0.2)
    assert server.pacer.drain_seconds("other 1", 5000) == 0


@example(waits=[0.02] * 200)
@given(waits=st.lists(st.floats(0, 0.02), min_size=1, max_size=200))
def test_no_more_goes_than_the_pace_allows_whenever_it_is_asked(waits):
    server = Server()
    server.run(1, {"flood": 9000, **server.others(20)})
    pacer, fastest, allowed, taken = server.pacer, 0.0, 0.0, 0
    for seconds in waits:
        server.now += seconds
        if pacer.tenant is None:  # nothing of its had to wait for a second
            break
        fastest = max(fastest, 1 / pacer.drain_seconds("flood", 1))
        allowed += seconds * fastest
        assert pacer.room("other 1", server.now) == UNPACED
        if count := pacer.room("flood", server.now):
            taken += count
            pacer.took("flood", count, server.now)
        else:
            assert server.now < pacer.release_at <= server.now + RELEASE_SECONDS
    assert taken <= allowed + 1 + 3 * RELEASE_SECONDS * fastest

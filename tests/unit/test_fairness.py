"""Everyone gets their due: by seconds taken, by weight, and none for having been idle."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mme.workers.fairness import FairQueue


def serve(queue: FairQueue[str], turns: int, seconds: dict[str, float]) -> Counter[str]:
    """Seconds that each tenant has had, of whom all always have more waiting."""
    had: Counter[str] = Counter()
    for _ in range(turns):
        share, item = queue.take()
        share.charge(seconds[item])
        had[item] += seconds[item]
        queue.put(item, item)
    return had


@given(
    seconds=st.dictionaries(st.sampled_from("abcd"), st.floats(0.01, 1.0), min_size=2),
    weights=st.dictionaries(st.sampled_from("abcd"), st.floats(0.5, 4.0)),
)
def test_whoever_always_waits_gets_seconds_by_weight(seconds, weights):
    queue: FairQueue[str] = FairQueue(weights)
    for tenant in seconds:
        queue.put(tenant, tenant)
    had = serve(queue, 200, seconds)
    due = {tenant: had[tenant] / weights.get(tenant, 1.0) for tenant in seconds}
    longest = max(seconds[tenant] / weights.get(tenant, 1.0) for tenant in seconds)
    assert max(due.values()) - min(due.values()) <= 2 * longest + 1e-9


def test_who_was_idle_is_next_and_has_saved_nothing_up():
    queue: FairQueue[str] = FairQueue({})
    queue.put("flood", "flood")
    serve(queue, 100, {"flood": 1.0})
    queue.put("quiet", "quiet")
    turns = []
    for _ in range(6):
        share, item = queue.take()
        share.charge(1.0)
        turns.append(item)
        queue.put(item, item)
    assert turns[:2] in (["flood", "quiet"], ["quiet", "flood"])
    assert Counter(turns) == {"flood": 3, "quiet": 3}


def test_what_a_turn_took_in_the_end_counts():
    queue: FairQueue[str] = FairQueue({})
    for tenant in ("cheap", "dear"):
        queue.put(tenant, tenant)
    for _ in range(2):
        share, item = queue.take()
        share.charge(1.0)
        share.charge(9.0 if item == "dear" else -0.5)
        queue.put(item, item)
    turns = [queue.take()[1] for _ in range(1)]
    assert turns == ["cheap"]


def test_tenants_that_left_are_forgotten():
    queue: FairQueue[str] = FairQueue({})
    for number in range(10_000):
        queue.put(f"{number}", "x")
        queue.take()[0].charge(0.001)
    assert len(queue._shares) < 5_000

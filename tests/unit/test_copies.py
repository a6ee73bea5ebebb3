"""Who gets another copy and who loses one: only lasting queues and lasting calm count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mme.cache.copies import Add, Copies, Demand, Drop
from mme.domain import ModelKey

KEY = ModelKey("hot.tar.gz")
TICK_SECONDS = 0.25


def demand(waiting=0, *, copies=1, answered=0, backlog=None, idlest=0):
    return Demand(
        key=KEY,
        copies=copies,
        waiting=waiting,
        answered=answered,
        backlog=waiting if backlog is None else backlog,
        idlest_backlog=idlest,
    )


def decisions(copies, demands, since=0.0):
    """What each look decided, and when."""
    found = []
    for number, each in enumerate(demands):
        now = since + number * TICK_SECONDS
        found += [(now, decision) for decision in copies.decide([each], now)]
    return found


def test_a_queue_that_stays_long_gets_a_copy_after_a_second_or_so():
    ((at, decision),) = decisions(Copies(8, 30.0), [demand(20)] * 8)
    assert decision == Add(KEY)
    assert 1.0 <= at <= 2.0


def test_a_burst_gets_none():
    assert decisions(Copies(8, 30.0), [demand(20)] * 3 + [demand(0)] * 20) == []


def test_a_batch_that_takes_the_whole_queue_at_once_does_not_hide_that_it_is_long():
    looks = [demand(30), demand(0)] * 12
    assert [decision for _, decision in decisions(Copies(8, 30.0), looks)][:1] == [Add(KEY)]


def test_no_copy_where_the_others_are_as_busy_or_there_is_no_other():
    assert decisions(Copies(8, 30.0), [demand(20, idlest=15)] * 20) == []
    assert decisions(Copies(8, 30.0), [demand(20, idlest=None)] * 20) == []


def with_a_copy(copies, per_look):
    """A model that got a copy while it answered so many a look."""
    looks = [demand(20, answered=per_look * number) for number in range(12)]
    at, decision = decisions(copies, looks)[0]
    assert decision == Add(KEY)
    return at


def test_a_copy_stays_while_more_is_asked_than_half_of_what_one_could_do():
    copies = Copies(8, 5.0)
    since = with_a_copy(copies, per_look=100)
    looks = [demand(2, copies=2, answered=60 * number) for number in range(200)]
    assert decisions(copies, looks, since) == []


def test_a_copy_goes_once_less_is_asked_for_long_enough():
    copies = Copies(8, 5.0)
    since = with_a_copy(copies, per_look=100)
    looks = [demand(0, copies=2, answered=40 * number) for number in range(40)]
    (at, decision), *_ = decisions(copies, looks, since)
    assert decision == Drop(KEY)
    assert at - since >= 5.0


def test_what_waits_no_more_is_forgotten():
    copies = Copies(8, 5.0)
    decisions(copies, [demand(20)] * 3 + [demand(0)] * 30)
    assert copies.keys() == []


@given(
    st.lists(
        st.builds(
            demand,
            st.integers(0, 100),
            copies=st.integers(1, 3),
            answered=st.integers(0, 10_000),
            backlog=st.integers(0, 200),
            idlest=st.none() | st.integers(0, 200),
        ),
        max_size=60,
    )
)
def test_never_more_copies_than_workers_and_never_less_than_one(demands):
    copies = Copies(4, 1.0)
    for number, each in enumerate(demands):
        for decision in copies.decide([each], number * TICK_SECONDS):
            assert each.idlest_backlog is not None if decision == Add(KEY) else each.copies > 1

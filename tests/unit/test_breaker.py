"""The breaker: when a container that did not answer is asked again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mme.containers.breaker import Breaker

OUTCOMES = ("answered", "failed", "given up")
FAILURES = 3


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker(failures=FAILURES)
    for _ in range(FAILURES):
        breaker.settle(breaker.admit(at), "failed", at)
    return breaker


def test_failures_in_a_row_open_it():
    breaker = Breaker(failures=FAILURES)
    for outcome in ("failed", "failed", "answered", "failed", "failed", "given up"):
        breaker.settle(breaker.admit(0), outcome, 0)
        assert breaker.state == "closed"
    breaker.settle(breaker.admit(0), "failed", 0)
    assert breaker.state == "open"
    assert breaker.refuses(0.9)
    assert breaker.retry_seconds(0.25) == 0.75


def test_one_probe_at_a_time_is_let_through_after_the_pause():
    breaker = opened()
    assert not breaker.refuses(1.0)
    probe = breaker.admit(1.0)
    assert breaker.state == "half-open"
    assert breaker.refuses(100.0)
    breaker.settle(probe, "answered", 1.1)
    assert breaker.state == "closed"
    assert not breaker.refuses(1.1)


def test_pauses_double_up_to_the_limit_and_begin_anew_after_a_success():
    breaker, now, pauses = opened(), 0.0, []
    for _ in range(7):
        pauses.append(breaker.retry_seconds(now))
        now += pauses[-1]
        breaker.settle(breaker.admit(now), "failed", now)
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    now += 30
    breaker.settle(breaker.admit(now), "answered", now)
    for _ in range(FAILURES):
        breaker.settle(breaker.admit(now), "failed", now)
    assert breaker.retry_seconds(now) == 1


def test_a_probe_given_up_leaves_its_place_to_the_next():
    breaker = opened()
    breaker.settle(breaker.admit(1.0), "given up", 1.5)
    assert not breaker.refuses(1.5)
    breaker.admit(1.5)
    assert breaker.state == "half-open"


def test_late_failures_do_not_lengthen_the_pause():
    breaker = Breaker(failures=FAILURES)
    last, *attempts = [breaker.admit(0) for _ in range(10)]
    for attempt in attempts:
        breaker.settle(attempt, "failed", 0)
    assert breaker.retry_seconds(0) == 1
    breaker.admit(1)
    breaker.settle(last, "failed", 1)
    assert breaker.state == "half-open"


def test_a_good_sign_ends_the_pause():
    breaker = opened()
    breaker.let_probe(0.1)
    assert not breaker.refuses(0.1)
    closed = Breaker()
    closed.let_probe(0.1)
    assert closed.state == "closed"


@given(st.lists(st.tuples(st.floats(0, 40), st.sampled_from(("ask", "good ping", *OUTCOMES)))))
def test_whatever_happens_it_is_never_stuck(events):
    breaker, now, out = Breaker(failures=FAILURES), 0.0, []
    for pause, event in events:
        now += pause
        if event == "ask":
            if not breaker.refuses(now):
                out.append(breaker.admit(now))
        elif event == "good ping":
            breaker.let_probe(now)
        elif out:
            breaker.settle(out.pop(0), event, now)
        assert breaker.retry_seconds(now) <= 30
        assert out or breaker.state != "half-open"
    for attempt in out:
        breaker.settle(attempt, "given up", now)
    assert breaker.state != "half-open"
    assert not breaker.refuses(now + 30)

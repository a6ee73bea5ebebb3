"""Newcomers against who is in use: fresh ones go only for what is asked for more."""

from __future__ import annotations

from mme.cache.churn import Churn, Victim
from mme.domain import ModelKey

NEW = ModelKey("new.tar.gz")


def victim(*, idle=1.0, resident=5.0, asks=3):
    return Victim(idle_seconds=idle, resident_seconds=resident, asks=asks)


def churn(asks=1, at=0.0):
    made = Churn(10.0)
    for _ in range(asks):
        made.ask(NEW, at)
    return made


def test_who_was_not_asked_for_in_a_while_goes_for_anyone():
    assert churn().wait_seconds(NEW, victim(idle=10.0, asks=1000), 0.0) == 0


def test_who_is_fresh_stays_and_the_newcomer_is_told_when_that_may_end():
    assert churn().wait_seconds(NEW, victim(idle=4.0), 0.0) == 6.0


def test_who_is_asked_for_twice_as_often_gets_in():
    assert churn(asks=5).wait_seconds(NEW, victim(), 0.0) > 0
    assert churn(asks=6).wait_seconds(NEW, victim(), 0.0) == 0


def test_asks_of_long_ago_do_not_count():
    assert churn(asks=6).wait_seconds(NEW, victim(), 5.0) > 0


def test_a_past_full_of_asks_does_not_protect_who_is_asked_for_seldom_now():
    old = victim(resident=10_000.0, asks=1000)  # one in ten seconds
    assert churn(asks=2).wait_seconds(NEW, old, 0.0) == 0


def test_nothing_is_refused_where_the_age_is_zero():
    off = Churn(0.0)
    off.ask(NEW, 0.0)
    assert off.wait_seconds(NEW, victim(idle=0.0), 0.0) == 0


def test_what_is_remembered_is_bounded():
    many = Churn(10.0)
    for number in range(150_000):
        many.ask(ModelKey(str(number)), 0.0)
    assert len(many._asks) == 100_000

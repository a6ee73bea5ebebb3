"""How a thread is scheduled, and those that it starts."""

from __future__ import annotations

import os
import threading

import pytest

from mme.scheduling import as_any_other, push_nobody_aside


def in_a_thread(work):
    """What `work` gives in a thread of its own."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def policy():
    return os.sched_getscheduler(0)


@pytest.mark.parametrize("is_so", [True, False])
def test_what_is_started_meanwhile_is_as_any_other_and_the_thread_itself_is_not_for_long(is_so):
    def work():
        push_nobody_aside()
        with as_any_other(is_so=is_so):
            inside = policy(), in_a_thread(policy)
        return *inside, policy(), in_a_thread(policy)

    meanwhile = os.SCHED_OTHER if is_so else os.SCHED_BATCH
    assert in_a_thread(work) == (meanwhile, meanwhile, os.SCHED_BATCH, os.SCHED_BATCH)
    assert policy() == os.SCHED_OTHER


def test_a_thread_that_pushes_others_aside_goes_on_to():
    def work():
        with as_any_other():
            inside = policy()
        return inside, policy()

    assert in_a_thread(work) == (os.SCHED_OTHER, os.SCHED_OTHER)


def test_an_error_inside_leaves_it_as_it_was():
    def work():
        push_nobody_aside()
        with pytest.raises(ValueError, match="no"), as_any_other():
            raise ValueError("no")
        return policy()

    assert in_a_thread(work) == os.SCHED_BATCH


def test_where_none_of_it_is_allowed_nothing_fails(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "sched_getscheduler", refuse)
    push_nobody_aside()
    with as_any_other():
        pass

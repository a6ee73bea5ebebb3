"""Against whom the end of a worker is held."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mme.cache.blame import CLEARING_ANSWERS, STRIKES_TO_QUARANTINE, Blame
from mme.workers.descriptors import JUST_SHORT_STATUS, SHORT_STATUS
from mme.workers.ends import Cause, Doing, cause_of, suspects
from mme.workers.full import STATUS

SEQUENCES = st.lists(
    st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 3)), min_size=1, max_size=60
)


@given(SEQUENCES)
def test_loads_that_never_come_up_are_never_held_against_what_is_predicted_beside_them(ends):
    blame = Blame()
    for rogue, has_answered, answers in ends:
        assert blame.ended(f"rogue{rogue}", "victim", has_answered=has_answered) == 0
        for _ in range(answers):
            blame.answered("victim")
    assert blame.ended("", "victim", has_answered=True) == 1  # the first that is its own


@given(SEQUENCES)
def test_a_load_that_never_comes_up_ends_two_workers_in_a_row_at_most(ends):
    blame, in_a_row = Blame(), 0
    for _, has_answered, _ in ends:
        blame.ended("rogue", "victim", has_answered=has_answered)
        in_a_row = in_a_row + 1 if blame.may_load_again("rogue") else 0
        assert in_a_row <= 1


@pytest.mark.parametrize(
    ("has_come_up", "batch", "has_answered", "is_sure", "strikes", "may_load_again"),
    [
        (False, "", False, True, 0, False),  # alone: it was the load
        (False, "", False, False, 0, True),  # or somebody outside
        (False, "batch", True, True, 0, False),  # new, beside what is known
        (False, "batch", True, False, 0, True),
        (False, "batch", False, True, 0, True),  # neither is known
        (True, "batch", True, True, 1, True),
        (True, "batch", False, True, 1, True),
        (True, "", False, True, 0, True),
    ],
)
def test_the_first_end_is_held_against(
    has_come_up, batch, has_answered, is_sure, strikes, may_load_again
):
    blame = Blame()
    if has_come_up:
        blame.came_up("load")
    assert blame.ended("load", batch, has_answered=has_answered, is_sure=is_sure) == strikes
    assert blame.may_load_again("load") is may_load_again
    assert blame.ended("load", batch, has_answered=False) == 0  # a second is the load's, then
    assert not blame.may_load_again("load")


def test_a_load_that_comes_up_when_tried_again_leaves_the_blame_with_the_batch():
    blame = Blame()
    for number in range(STRIKES_TO_QUARANTINE):
        assert blame.ended(f"new{number}", "rogue", has_answered=False) == 0
        blame.came_up(f"new{number}")
    assert blame.ended("", "rogue", has_answered=False) == STRIKES_TO_QUARANTINE + 1


def test_a_load_that_comes_up_after_a_kill_from_outside_leaves_nobody_known_with_the_blame():
    blame = Blame()
    for number in range(STRIKES_TO_QUARANTINE):
        assert blame.ended(f"new{number}", "victim", has_answered=True, is_sure=False) == 0
        blame.came_up(f"new{number}")
    assert blame.ended("", "victim", has_answered=True) == 1


@given(st.lists(st.integers(0, CLEARING_ANSWERS - 1), min_size=STRIKES_TO_QUARANTINE))
def test_who_never_answers_well_for_long_is_quarantined_after_the_set_number(answers_between):
    blame = Blame()
    for strikes, answers in enumerate(answers_between, 1):
        assert blame.ended("", "rogue", has_answered=True) == strikes
        for _ in range(answers):
            blame.answered("rogue")


@given(st.lists(st.integers(CLEARING_ANSWERS, 2 * CLEARING_ANSWERS), max_size=6))
def test_who_answers_well_for_long_after_each_end_never_is(answers_between):
    blame = Blame()
    for answers in answers_between:
        assert blame.ended("", "model", has_answered=True) == 1
        for _ in range(answers):
            blame.answered("model")


@pytest.mark.parametrize(
    ("code", "killed", "words", "doing"),
    [
        (3, None, "it exited with status 3", Doing.MODEL),
        (-11, None, "it was killed by SIGSEGV", Doing.MODEL),
        (-9, None, "it was killed by SIGKILL", Doing.ANYONE),
        (-9, Cause("a prediction ran on", Doing.BATCH), "a prediction ran on", Doing.BATCH),
        (-9, Cause("a load was given up"), "a load was given up", Doing.NOBODY),
        (0, Cause("a load was given up"), "it exited with status 0", Doing.MODEL),
        (SHORT_STATUS, None, "its descriptors were used up", Doing.NOBODY),
        (JUST_SHORT_STATUS, None, "its descriptors were used up", Doing.ANYONE),
        (STATUS, None, "a model took all the memory that it may", Doing.BATCH),
    ],
)
def test_a_cause_says_whose_doing_it_is(code, killed, words, doing):
    assert cause_of(code, killed) == Cause(words, doing)


@pytest.mark.parametrize(
    ("doing", "is_loading", "has_answered", "is_sure"),
    [
        (Doing.MODEL, True, True, True),
        (Doing.ANYONE, True, True, False),
        (Doing.BATCH, False, True, True),
        (Doing.LOAD, True, False, True),
        (Doing.NOBODY, False, False, True),
    ],
)
def test_who_was_there_is_a_suspect_where_it_can_have_been_the_cause(
    doing, is_loading, has_answered, is_sure
):
    found = suspects(doing, batch=None, has_answered=True, loading="content")
    assert found.loading == ("content" if is_loading else "")
    assert found.has_answered is has_answered
    assert found.is_sure is is_sure

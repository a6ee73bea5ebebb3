"""Whose doing it is that a worker's directory grows."""

from __future__ import annotations

import pytest

from mme.workers.disk_growth import Growth

MIB = 1024**2


@pytest.fixture
def growth() -> Growth:
    return Growth()


def test_nobody_is_to_blame_while_nothing_has_come(growth: Growth) -> None:
    growth.began(1, "a")
    growth.looked(0, 1.0)
    assert growth.most() == ""


def test_who_says_what_it_wrote_has_that_and_the_one_that_was_busy_the_rest(
    growth: Growth,
) -> None:
    growth.began(1, "busy")
    growth.ended(1, 0.9)
    growth.began(2, "writer")
    growth.ended(2, 0.01, 3 * MIB)
    growth.looked(4 * MIB, 1.0)
    assert growth.most() == "writer"
    growth.began(3, "busy")
    growth.looked(9 * MIB, 1.0)  # of which nobody says anything
    assert growth.most() == "busy"


def test_what_comes_while_nothing_runs_is_put_down_to_who_ran_before(growth: Growth) -> None:
    growth.began(1, "a")
    growth.ended(1, 0.5)
    growth.looked(0, 1.0)
    growth.looked(MIB, 1.0)
    assert growth.most() == "a"


def test_what_was_removed_is_forgotten(growth: Growth) -> None:
    growth.began(1, "tidy")
    growth.ended(1, 0.5, 8 * MIB)
    growth.looked(8 * MIB, 1.0)
    growth.looked(MIB, 1.0)
    growth.began(2, "writer")
    growth.ended(2, 0.1, 2 * MIB)
    growth.looked(3 * MIB, 1.0)
    assert growth.most() == "writer"
    growth.looked(0, 1.0)
    assert growth.most() == ""


def test_a_worker_that_writes_and_removes_between_looks_is_put_down_no_more_than_is_there(
    growth: Growth,
) -> None:
    growth.began(1, "tidy")
    growth.ended(1, 0.5, 100 * MIB)
    growth.looked(MIB, 1.0)
    growth.began(2, "writer")
    growth.ended(2, 0.1, 2 * MIB)
    growth.looked(3 * MIB, 1.0)
    assert growth.most() == "writer"


def test_it_is_known_whether_the_worker_is_at_the_load_of_a_model(growth: Growth) -> None:
    growth.began("a", "a")
    assert growth.is_loading("a")
    growth.ended("a", 0.1)
    assert not growth.is_loading("a")

"""How long a worker may keep us waiting, by a clock of the test's."""

from __future__ import annotations

import pytest

from mme.config import WorkerConfig
from mme.workers.patience import Patience


def looks(patience, seconds, last_sign_at, every=1.0):
    """What was found at each look from then on."""
    count = int((seconds[1] - seconds[0]) / every)
    return [patience.overdue(seconds[0] + every * n, last_sign_at, None) for n in range(count)]


@pytest.fixture
def patience():
    return Patience(WorkerConfig(silence_seconds=30, heartbeat_seconds=1))


def test_a_silent_worker_is_overdue_and_one_that_was_heard_of_is_not(patience):
    assert not any(looks(patience, (0, 31), last_sign_at=0))
    assert "no sign of life for 30 s" in patience.overdue(31, 0, None).words
    assert patience.overdue(32, 31.5, None) is None


def test_who_was_away_itself_counts_from_its_return(patience):
    assert not any(looks(patience, (0, 10), last_sign_at=9))
    assert not any(looks(patience, (1000, 1031), last_sign_at=9))
    assert patience.overdue(1031, 9, None)


def test_who_looks_late_every_time_sees_a_silent_worker_all_the_same(patience):
    assert any(looks(patience, (0, 70), last_sign_at=0, every=14.0))


def test_rare_heartbeats_are_no_absence():
    rare = Patience(WorkerConfig(silence_seconds=30, heartbeat_seconds=20))
    assert any(looks(rare, (0, 100), last_sign_at=0, every=20.5))

"""A pool whose threads are all there from the start, or none."""

from __future__ import annotations

import threading

import pytest

from mme.errors import ConfigError
from mme.threads import Threads


def named(prefix):
    return [thread for thread in threading.enumerate() if thread.name.startswith(prefix)]


def test_all_threads_are_there_before_there_is_work_and_go_with_the_pool():
    with Threads(5, "five") as pool:
        assert len(named("five")) == 5
        assert sorted(pool.map(abs, range(-9, 0))) == list(range(1, 10))
        assert len(named("five")) == 5
    assert not named("five")


def test_a_pool_that_gets_too_few_threads_is_none(monkeypatch):
    start = threading.Thread.start

    def start_some(thread):
        if len(named("few")) >= 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_some)
    with pytest.raises(ConfigError, match=r"no 4 threads more \(few\)"):
        Threads(4, "few")
    assert not named("few")

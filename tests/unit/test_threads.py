"""A pool whose threads are all there from the start, or none."""

from __future__ import annotations

import gc
import os
import threading
import weakref

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


def test_who_waited_least_works_next_and_what_no_thread_is_free_for_waits_its_turn():
    with Threads(3, "turns") as pool:
        names = {pool.submit(lambda: threading.current_thread().name).result() for _ in range(20)}
        assert len(names) == 1
        free = threading.Event()
        busy = [pool.submit(free.wait) for _ in range(3)]
        done = []
        later = [pool.submit(done.append, number) for number in range(5)]
        assert not done
        free.set()
        for future in (*busy, *later):
            future.result()
        assert sorted(done) == list(range(5))


def test_its_threads_push_nobody_aside():
    with Threads(2, "batch") as pool:
        assert pool.submit(os.sched_getscheduler, 0).result() == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_an_error_goes_to_who_waits_and_keeps_nothing():
    class Held:
        pass

    def fail(held):
        raise ValueError("no")

    gc.disable()
    try:
        with Threads(1, "error") as pool:
            held = Held()
            seen = weakref.ref(held)
            future = pool.submit(fail, held)
            with pytest.raises(ValueError, match="no"):
                future.result()
            assert pool.submit(int, "7").result() == 7
            del held, future
            assert seen() is None
    finally:
        gc.enable()


def test_what_was_given_is_done_before_the_end_unless_it_is_to_be_cancelled():
    for cancels in (False, True):
        pool = Threads(1, "end")
        free = threading.Event()
        first = pool.submit(free.wait)
        while not first.running():
            pass
        second = pool.submit(int, "2")
        pool.shutdown(wait=False, cancel_futures=cancels)
        with pytest.raises(RuntimeError, match="after shutdown"):
            pool.submit(int, "3")
        free.set()
        pool.shutdown()
        assert first.result()
        assert second.cancelled() if cancels else second.result() == 2
        assert not named("end")


def test_a_pool_that_nobody_has_any_more_ends_once_its_work_is_done():
    free, done = threading.Event(), []
    pool = Threads(2, "lost")
    for number in range(4):
        pool.submit(lambda number=number: (free.wait(), done.append(number)))
    threads = named("lost")
    assert len(threads) == 2
    del pool
    free.set()
    for thread in threads:
        thread.join()
    assert sorted(done) == [0, 1, 2, 3]

"""For how long a thread wanted a core: what it used at least, and nothing while it slept."""

from __future__ import annotations

import time

import pytest

from mme.workers import wanted_time
from mme.workers.wanted_time import wanted_seconds


def compute(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


@pytest.mark.parametrize("book", [wanted_time._SCHEDULED, "/proc/of/an/older/kernel"])
def test_what_a_thread_uses_it_has_wanted(monkeypatch, book):
    monkeypatch.setattr(wanted_time, "_SCHEDULED", book)
    before, began = wanted_seconds(), time.monotonic()
    compute(0.1)
    # its book may be a scheduler tick old
    assert 0.08 <= wanted_seconds() - before <= time.monotonic() - began + 0.01


def test_a_thread_that_sleeps_wants_nothing():
    before = wanted_seconds()
    time.sleep(0.2)
    assert wanted_seconds() - before < 0.1

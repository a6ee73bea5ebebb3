"""The access log keeps the order of accesses in bounded space, and costs a request little."""

from __future__ import annotations

import time
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from mme.cache.accesses import AccessLog

STEPS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("hmr"), st.integers(1, 9)), max_size=80
)


def told(log: AccessLog):
    """(model, outcome, milliseconds) by access, and what is known of each model."""
    kept = log.copy().describe()
    rows = zip(kept["numbers"], kept["outcomes"], kept["milliseconds"], strict=True)
    facts = zip(kept["models"], kept["bytes"], kept["load_seconds"], strict=True)
    return (
        [(kept["models"][number], outcome, when) for number, outcome, when in rows],
        {model: (size, seconds) for model, size, seconds in facts if model},
    )


@given(steps=STEPS, limit=st.integers(1, 12))
def test_what_is_kept_are_the_last_accesses_and_the_models_in_them(steps, limit):
    log = AccessLog(100.0, limit)
    expected, facts = deque(maxlen=limit), {}
    for at, (model, outcome, size) in enumerate(steps):
        if outcome == "r":
            log.note_refused(model, 100.0 + at)
            if model not in {name for name, _, _ in expected}:
                continue  # never in memory as far as is known: nothing to try elsewhere
        else:
            hit = outcome == "h"
            log.note(model, 100.0 + at, hit=hit, size_bytes=size, load_seconds=size / 2)
            known = model in {name for name, _, _ in expected}
            facts[model] = facts[model] if hit and known else (size, size / 2)
        expected.append((model, outcome, at * 1000))
        rows, models = told(log)
        assert rows == list(expected)
        assert models == {name: facts[name] for name, _, _ in expected}
        assert len(log.copy().models) <= limit + 1


def test_an_access_takes_about_a_microsecond_and_nine_bytes():
    count = 200_000
    log = AccessLog(0.0)
    names = [f"tenant-{number % 1000}/model.tar.gz" for number in range(2 * count)]
    began = time.process_time()
    for at, name in enumerate(names):
        log.note(name, at, hit=True, size_bytes=1, load_seconds=1.0)
    seconds = (time.process_time() - began) / len(names)
    assert len(log) == count
    assert seconds < 5e-6, "five times what it takes on an idle machine"

"""`mme whatif` before it asks a server: what it refuses, what it tries."""

from __future__ import annotations

import pytest

from mme.cache.replay import Trace, replay
from mme.cli.whatif import _tries, whatif
from mme.errors import ConfigError

NOWHERE = "http://127.0.0.1:9"
NOW = replay(Trace(numbers=(), sizes_bytes=(), load_seconds=()), 100, "lru")


@pytest.mark.parametrize(
    ("flags", "named"),
    [({"memory": ["lots"]}, "memory: .* 'lots'"), ({"eviction": "fifo"}, "eviction: .* 'fifo'")],
)
def test_a_wrong_budget_or_policy_is_named(flags, named):
    with pytest.raises(ConfigError, match=named):
        whatif(**flags, endpoint_url=NOWHERE)


@pytest.mark.parametrize(
    ("budgets", "eviction", "tried"),
    [
        ([7, 8], None, [(7, "lru"), (8, "lru")]),
        ([7], "gdsf", [(7, "gdsf")]),
        ([], "gdsf", [(100, "gdsf")]),
        ([], None, [(50, "lru"), (50, "gdsf"), (100, "gdsf"), (200, "lru"), (200, "gdsf")]),
    ],
)
def test_what_is_not_said_stays_as_it_is_and_nothing_said_is_half_and_double(
    budgets, eviction, tried
):
    assert _tries(NOW, budgets, eviction) == tried

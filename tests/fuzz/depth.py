"""How long to look for trouble: little in every run, as long as one likes by hand."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_SHORT = 150

# Read on import: the fixture that hides MME_* from tests comes later.
examples = settings(
    max_examples=int(os.environ.get("MME_FUZZ_EXAMPLES", _SHORT)),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

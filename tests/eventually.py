"""Waiting for something to become true, in one place; the test's own timeout ends it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def eventually(is_true: Callable[[], object], pause_seconds: float = 0.002) -> None:
    """Returns once `is_true()` is."""
    while not is_true():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(pause_seconds)


def wait_for(is_true) -> None:
    """As `eventually`, for what no loop runs in; the test's own timeout ends it."""
    while not is_true():
        time.sleep(0.05)

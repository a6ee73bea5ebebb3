"""Waiting for something to become true, in one place; the test's own timeout ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def eventually(is_true: Callable[[], object], pause_seconds: float = 0.002) -> None:
    """Returns once `is_true()` is."""
    while not is_true():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(pause_seconds)

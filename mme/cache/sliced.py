"""What takes the event loop long, a little at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


async def sliced(items: Sequence[Item], count: int) -> AsyncIterator[Sequence[Item]]:
    """So many at a time; between them others have their turn, where those are not all."""
    for start in range(0, len(items), count):
        if start:
            await asyncio.sleep(0)
        yield items[start : start + count]

"""Tasks that live as long as the stack that owns them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack


def own(stack: AsyncExitStack, work: Coroutine[None, None, None]) -> None:
    """Starts `work`; when the stack unwinds it is cancelled and waited for."""
    stack.push_async_callback(_cancelled, asyncio.create_task(work))


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])

"""Tasks that live as long as the stack that owns them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack

import structlog

from mme import logs


def own(stack: AsyncExitStack, work: Coroutine[None, None, None]) -> None:
    """Starts `work`; when the stack unwinds it is cancelled and waited for.

    An error that ends it before is logged: nobody waits for it, and all else goes on.
    """
    task = asyncio.create_task(work)
    task.add_done_callback(_tell)
    stack.push_async_callback(_cancelled, task)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _tell(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        structlog.get_logger().error(logs.INTERNAL_ERROR, exc_info=error)

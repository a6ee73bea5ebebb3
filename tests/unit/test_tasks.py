"""Tasks that a stack owns: none ends without a word."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from structlog.testing import capture_logs

from mme.app.tasks import own
from tests.eventually import eventually


async def fail() -> None:
    raise ValueError("of nobody's making")


async def wait() -> None:
    await asyncio.Event().wait()


async def end() -> None:
    await asyncio.sleep(0)


async def test_an_error_that_ends_a_task_is_logged_and_nothing_else_is():
    with capture_logs() as lines:
        async with AsyncExitStack() as stack:
            for work in (fail, wait, end):
                own(stack, work())
            await eventually(lambda: lines)
    [line] = lines
    assert (line["event"], line["log_level"]) == ("internal_error", "error")
    assert str(line["exc_info"]) == "of nobody's making"

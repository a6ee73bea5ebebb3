"""An object in ranges, several under way at once, passed on in order: for a store that is far.

Decisions: the first range is the first answer itself, passed on as it comes; each of the others is
held whole until its turn, so that one that breaks off can be asked for again and nobody has seen
half of it. So at most `at_once` ranges and the one being passed on are in memory. Rejected: to
split what is left of a whole object's answer, whose connection could only be thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from mme.store.base import Chunk

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes of an object from `start` to before `stop`."""

    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        """How many."""
        return self.stop - self.start

    @property
    def header(self) -> str:
        """As `Range` asks for it."""
        return f"bytes={self.start}-{self.stop - 1}"

    @classmethod
    def told(cls, content_range: str) -> tuple[Self, int]:
        """What a `Content-Range` says: the span, and the object's bytes. Raises ValueError."""
        found = _CONTENT_RANGE.fullmatch(content_range)
        if found is None:
            raise ValueError(content_range)
        first, last, total = map(int, found.groups())
        return cls(first, last + 1), total

    @classmethod
    def held(cls, headers: Mapping[str, str]) -> tuple[Self, int]:
        """The bytes that an answer holds, and of how many. Raises KeyError, ValueError."""
        if told := headers.get("content-range"):
            return cls.told(told)
        size_bytes = int(headers["content-length"])
        return cls(0, size_bytes), size_bytes

    def others(self, total_bytes: int) -> list[Span]:
        """What is left of an object behind this span, in spans as long as this one."""
        starts = range(self.stop, total_bytes, max(1, self.size_bytes))
        return [Span(start, min(start + self.size_bytes, total_bytes)) for start in starts]


async def in_order(
    first: AsyncGenerator[Chunk, None],
    others: Iterable[Span],
    fetch: Callable[[Span], Coroutine[Any, Any, list[Chunk]]],
    at_once: int,
) -> AsyncGenerator[Chunk, None]:
    """Passes on `first` and then the others, each as `fetch` gives it; raises what they raise.

    Closing or cancelling ends all that is under way.

    Args:
        first: passed on as it comes.
        others: in order.
        fetch: called in tasks.
        at_once: ranges under way at most, 1 or more; `first` counts while it lasts.
    """
    ahead = deque(others)
    coming: deque[asyncio.Task[list[Chunk]]] = deque()

    def begin(limit: int) -> None:
        while ahead and len(coming) < limit:
            coming.append(asyncio.create_task(fetch(ahead.popleft()), name="s3-range"))

    try:
        begin(at_once - 1)
        async with contextlib.aclosing(first):
            async for chunk in first:
                yield chunk
        begin(at_once)
        while coming:
            chunks = deque(await coming[0])
            coming.popleft()
            begin(at_once)
            while chunks:
                yield chunks.popleft()
    finally:
        await _end(coming)


async def _end(tasks: Collection[asyncio.Task[list[Chunk]]]) -> None:
    """Cancels and awaits; errors that nobody came to see are not complained of."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()

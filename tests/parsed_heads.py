"""What aiohttp's parser makes of a request: what heads that are found by their bytes must say."""

from __future__ import annotations

import asyncio
from functools import cache

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser
from aiohttp.streams import StreamReader

from mme.front.heads import Head, read_head


def parsed(data: bytes) -> list[tuple[Head, StreamReader]]:
    """Every request in `data`, the last perhaps without all of its body.

    Raises:
        HttpProcessingError: it is no HTTP.
    """
    loop = _loop()
    parser = HttpRequestParser(BaseProtocol(loop, None), loop, 1 << 18, auto_decompress=False)
    messages, _, _ = parser.feed_data(data)
    return [(read_head(message), content) for message, content in messages]


def said(head: Head) -> tuple[object, ...]:
    """All that a head says."""
    fields = sorted((name.lower(), value) for name, value in head.headers.items())
    return head.method, str(head.url), fields, head.version, head.should_close


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """That parsers ask for, and which never runs."""
    loop = asyncio.new_event_loop()
    loop.close()
    return loop

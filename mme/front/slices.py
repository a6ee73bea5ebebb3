"""A large answer goes out when there is room for it, and has its time in all.

Decision: over TLS in slices. Its transport takes whatever it is given, encrypts it, and says that
all of it has gone; only what is given after that waits. A plain one is given all at once, which is
faster, and has it in memory until the last byte is taken: so do we.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

_SLICE_BYTES: Final = 1 << 16


class _Connection(Protocol):
    async def send_piece(self, piece: bytes) -> None: ...
    async def room(self) -> None: ...
    def abort(self) -> None: ...


async def send_slices(
    connection: _Connection, body: bytes, seconds: float, transport: asyncio.Transport
) -> None:
    """Returns when all but what sockets hold is taken; cuts off who takes longer."""
    is_plain = transport.get_extra_info("sslcontext") is None
    slice_bytes = (len(body) or 1) if is_plain else _SLICE_BYTES
    try:
        async with asyncio.timeout(seconds):
            for start in range(0, len(body), slice_bytes):
                await connection.send_piece(body[start : start + slice_bytes])
            await connection.room()
    except TimeoutError:
        connection.abort()

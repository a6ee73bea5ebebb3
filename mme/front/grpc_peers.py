"""Who is at the other end of a call, and cutting off who does not take its answer.

Decision: gRPC has no deadline for an answer that is not taken, and its asyncio server can't cancel
a call: what waits for a client that answers pings would be in memory for ever. So its connection is
found among this process's own and shut down, as over HTTP; gRPC then ends its calls itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mme.front.sites import plain_address, site_of

_LOOKS = 10  # in the time that a client has
_OPEN_FILES = Path("/dev/fd")
_Peer = tuple[IPv4Address | IPv6Address, int]


class Untaken:
    """Answers that clients have not taken yet.

    Args:
        port: that they came to.
        seconds: that a client may take.
    """

    def __init__(self, port: int, seconds: float) -> None:
        self._port, self._seconds = port, seconds
        self._answers: dict[int, tuple[float, str]] = {}  # since when, by which peer; in order
        self._numbers = count()

    def add(self, context: Any) -> None:  # noqa: ANN401 - grpc has no types
        """That call's answer is sent now."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().time(), context.peer()
        context.add_done_callback(partial(self._taken, number))

    async def watch(self) -> None:
        """Cuts off who is too slow, until it is cancelled."""
        while True:
            await asyncio.sleep(self._seconds / _LOOKS)
            if late := self._late(asyncio.get_running_loop().time() - self._seconds):
                await asyncio.to_thread(_cut_off, self._port, late)

    def _taken(self, number: int, _: object) -> None:
        self._answers.pop(number, None)

    def _late(self, since: float) -> set[_Peer]:
        late = set()
        for began, peer in self._answers.values():
            if began > since:
                break
            late.add(_read_peer(peer))
        return late


def site_of_peer(peer: str) -> str:
    """Where a call comes from."""
    return site_of(str(_read_peer(peer)[0]))


def _read_peer(peer: str) -> _Peer:
    """Reads `ipv4:127.0.0.1:80` and `ipv6:%5B::1%5D:80`, as gRPC writes them."""
    _, _, place = unquote(peer).partition(":")
    host, _, port = place.rpartition(":")
    return plain_address(host.strip("[]")), int(port)


def _cut_off(port: int, peers: set[_Peer]) -> None:
    """Shuts down the connections of this process from `peers` to that port."""
    for file in _OPEN_FILES.iterdir():
        number = int(file.name)
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                # a copy, whose number is nobody else's meanwhile
                with socket.socket(fileno=os.dup(number)) as connection:
                    if _is_of(connection, port, peers):
                        connection.shutdown(socket.SHUT_RDWR)


def _is_of(connection: socket.socket, port: int, peers: set[_Peer]) -> bool:
    if connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return False
    host, from_port, *_ = connection.getpeername()
    return connection.getsockname()[1] == port and (plain_address(host), from_port) in peers

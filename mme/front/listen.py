"""One address: its listening sockets, and the connections that come by them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import Any

from mme.errors import ConfigError
from mme.front.connection import Connection
from mme.front.connections import Connections
from mme.front.tls import Tls

_BACKLOG = 2048


class Listener:
    """Listens from `start` or `take` on.

    Args:
        connections: makes the protocol of each.
        tls: None: plain HTTP.
    """

    port: int

    def __init__(self, connections: Connections, tls: Tls | None) -> None:
        self._connections = connections
        self._tls = tls
        self._servers: list[asyncio.Server] = []

    async def start(self, host: str, port: int, setting: str) -> None:
        """Listens; `port` 0 is any free one.

        Raises:
            ConfigError: the address can't be had; the message names the `setting`.
        """
        try:
            await self._listen(host=host, port=port, reuse_address=True)
        except OSError as error:
            raise ConfigError(f"{setting}: cannot listen on {host}:{port}: {error}") from error
        self.port = self._servers[0].sockets[0].getsockname()[1]

    async def take(self, bound: Iterable[socket.socket]) -> None:
        """Listens on these. Raises OSError."""
        for each in bound:
            await self._listen(sock=each)

    async def _listen(self, **where: Any) -> None:  # noqa: ANN401 - the loop's own arguments
        tls = self._tls
        server = await asyncio.get_running_loop().create_server(
            self._connections if tls is None else self._connect,
            backlog=_BACKLOG,
            ssl=None if tls is None else tls.context,
            ssl_handshake_timeout=None if tls is None else self._connections.patience_seconds,
            **where,
        )
        self._servers.append(server)

    @property
    def is_connected(self) -> bool:
        """Whether any connection is left."""
        return bool(self._connections.connections)

    def stop(self) -> None:
        """No new connections."""
        for server in self._servers:
            server.close()

    async def close(self, grace_seconds: float) -> None:
        """Ends every connection: the idle at once, the others after that time at most."""
        self.stop()
        await self._connections.close(grace_seconds)
        for server in self._servers:
            await server.wait_closed()

    def _connect(self) -> Connection:
        if self._tls is not None:
            self._tls.refresh()
        return self._connections()

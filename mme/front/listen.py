"""One address: its listening socket, and the connections that come by it."""

from __future__ import annotations

import asyncio

from mme.errors import ConfigError
from mme.front.connection import Connection, Connections
from mme.front.tls import Tls

_BACKLOG = 2048


class Listener:
    """Listens from `start` on.

    Args:
        connections: makes the protocol of each.
        tls: None: plain HTTP.
    """

    port: int

    def __init__(self, connections: Connections, tls: Tls | None) -> None:
        self._connections = connections
        self._tls = tls
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, setting: str) -> None:
        """Listens; `port` 0 is any free one.

        Raises:
            ConfigError: the address can't be had; the message names the `setting`.
        """
        tls = self._tls
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self._connections if tls is None else self._connect,
                host,
                port,
                backlog=_BACKLOG,
                reuse_address=True,
                ssl=None if tls is None else tls.context,
                ssl_handshake_timeout=None if tls is None else self._connections.patience_seconds,
            )
        except OSError as error:
            raise ConfigError(f"{setting}: cannot listen on {host}:{port}: {error}") from error
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def is_connected(self) -> bool:
        """Whether any connection is left."""
        return bool(self._connections.connections)

    def stop(self) -> None:
        """No new connections."""
        if self._server is not None:
            self._server.close()

    async def close(self, grace_seconds: float) -> None:
        """Ends every connection: the idle at once, the others after that time at most."""
        self.stop()
        await self._connections.close(grace_seconds)
        if self._server is not None:
            await self._server.wait_closed()

    def _connect(self) -> Connection:
        if self._tls is not None:
            self._tls.refresh()
        return self._connections()

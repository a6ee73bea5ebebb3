"""One address for several listening processes: the kernel deals out new connections among them.

The server's own process holds the address by sockets that don't listen, so that it stays the
server's while no front is up. Who else listens there already is found before it is shared.
"""

from __future__ import annotations

import socket

from mme.errors import ConfigError


class SharedAddress:
    """The address, held until it is closed.

    Args:
        host: a name or number; all that it stands for.
        port: 0 is any free one.
        setting: which the message names.

    Raises:
        ConfigError: the address can't be had, or this system can't share one.
    """

    def __init__(self, host: str, port: int, setting: str) -> None:
        if not hasattr(socket, "SO_REUSEPORT"):
            raise ConfigError("fronts: more than one needs SO_REUSEPORT, which is not here")
        self.port = port
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self._addresses = sorted({(family, address) for family, _, _, _, address in found})
            if port:
                _close(self._bind(shared=False))
            self._held = self._bind(shared=True)
        except OSError as error:
            raise ConfigError(f"{setting}: cannot listen on {host}:{port}: {error}") from error

    def sockets(self) -> list[socket.socket]:
        """New ones, for one more process to listen on. Raises OSError."""
        return self._bind(shared=True)

    def close(self) -> None:
        """Holds it no more."""
        _close(self._held)

    def _bind(self, *, shared: bool) -> list[socket.socket]:
        bound: list[socket.socket] = []
        try:
            for family, (host, _, *rest) in self._addresses:
                bound.append(socket.socket(family, socket.SOCK_STREAM))
                bound[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if shared:
                    bound[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family == socket.AF_INET6:
                    bound[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                bound[-1].bind((host, self.port, *rest))
                self.port = bound[-1].getsockname()[1]
        except BaseException:
            _close(bound)
            raise
        return bound


def _close(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()

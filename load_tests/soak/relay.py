"""A TCP relay in front of the store that is slow, silent, refuses or resets, as it is told to.

Decision: it knows of HTTP only that a request comes in one piece, which is true of a GET or HEAD
over loopback; so whatever the store speaks otherwise goes through it untouched.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from select import select
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import cast

SLOW, SILENT, REFUSING, RESETTING = "slow", "silent", "answers 503", "resets"

_CHUNK_BYTES = 1 << 16
_SLOW_SECONDS = 0.1  # a chunk
_LOOK_SECONDS = 0.2
_REFUSAL = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n"
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: a reset instead of an end


class _Broken(Exception):
    """This connection ends here."""


class Relay(ThreadingTCPServer):
    """Listens on loopback; `fault` may be changed at any time, None is none.

    Args:
        store_port: where the store listens on loopback.
    """

    request_queue_size = 128

    def __init__(self, store_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.store_port = store_port
        self.fault: str | None = None
        self.over = threading.Event()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])


class _Connection(BaseRequestHandler):
    def handle(self) -> None:
        relay = cast("Relay", self.server)
        with (
            suppress(OSError, _Broken),
            socket.create_connection(("127.0.0.1", relay.store_port)) as store,
        ):
            other = {self.request: store, store: self.request}
            while not relay.over.is_set():
                for source in select([*other], [], [], _LOOK_SECONDS)[0]:
                    if not (data := source.recv(_CHUNK_BYTES)):
                        return
                    self._pass_on(relay, data, source, other[source])

    def _pass_on(
        self, relay: Relay, data: bytes, source: socket.socket, target: socket.socket
    ) -> None:
        asks = source is self.request
        if relay.fault == REFUSING and asks:
            source.sendall(_REFUSAL)
            return
        if relay.fault == RESETTING and not asks:
            target.sendall(data[: len(data) // 2])
            target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            target.close()  # else socketserver would shut it down first, which is an end
            raise _Broken
        if relay.fault == SLOW:
            relay.over.wait(_SLOW_SECONDS)
        while relay.fault == SILENT and not relay.over.wait(_LOOK_SECONDS):
            pass
        target.sendall(data)


@contextmanager
def relayed(store_port: int) -> Iterator[Relay]:
    """A relay that runs until left."""
    with Relay(store_port) as relay:
        thread = threading.Thread(target=relay.serve_forever, name="relay")
        thread.start()
        try:
            yield relay
        finally:
            relay.over.set()
            relay.shutdown()
            thread.join()

"""Messages over gRPC, received within the limits on bytes and time.

Decision: to gRPC every call is a stream, whatever its client says: so a message is asked for once
there is room, and until then flow control leaves all but its beginning with the client. How large
it is shows when it is here, so the largest there may be is held meanwhile, and as many are received
at once as half of the limit has room for; the others wait for their turn, see `FairTurns`.
"""

from __future__ import annotations

from typing import Any

import grpc

from mme.config import ServerConfig
from mme.errors import InvalidRequest
from mme.front.bodies import LARGE_BYTES, Bodies
from mme.front.fair_turns import FairTurns

_FAIR_SHARE = 6  # of the time that a message may take, where others wait


class GrpcBodies:
    """Receives messages; together with `bodies`, their bytes are within the limit.

    Args:
        server: the limits.
        bodies: all that are here, of other ports, too.
    """

    def __init__(self, server: ServerConfig, bodies: Bodies) -> None:
        self._limit_bytes = min(server.body_limit_bytes, server.bodies_limit_bytes)
        self._bodies = bodies
        at_once = max(1, server.bodies_limit_bytes // 2 // max(1, self._limit_bytes))
        seconds = server.body_seconds
        self._turns = FairTurns(at_once, seconds, seconds / _FAIR_SHARE)

    async def receive(self, context: Any, caller: str) -> bytes:  # noqa: ANN401 - grpc has no types
        """The call's only message, whose bytes are held until they are dropped.

        Raises:
            Overloaded: there is no room, or too many are being received.
            PayloadTimeout: the client was too slow.
            InvalidRequest: it broke off.
        """
        async with self._turns.take(caller):
            spare_bytes = self._bodies.hold(self._limit_bytes, caller)
            try:
                # not by the stream's iterator, which keeps what it gave
                message = await context.read()
                if message is grpc.aio.EOF:
                    raise InvalidRequest("The request broke off.")
                spare_bytes -= len(message)  # it is dropped by who has it
            finally:
                self._bodies.drop(spare_bytes, caller)
            return bytes(message)

    def send(self, answer: bytes, context: Any, caller: str) -> bytes:  # noqa: ANN401
        """The answer, which counts until the call has ended if it is large. Raises Overloaded."""
        if (size_bytes := len(answer)) > LARGE_BYTES:
            self._bodies.hold(size_bytes, caller)
            context.add_done_callback(lambda _: self._bodies.drop(size_bytes, caller))
        return answer

    def drop(self, message: bytes, caller: str) -> None:
        """It is here no more."""
        self._bodies.drop(len(message), caller)

"""Free ports for the containers that we start: a block each, which no other one shares.

Decision: blocks lie below the ports that the system gives to outgoing connections, so that none of
those sits down on a port between its choice and its use; where to look first is random, so that two
servers on one machine hardly meet. Every start of a container gets a fresh block: what an earlier
one left behind can't be in its way, nor be taken for it.
"""

from __future__ import annotations

import random
import socket
from typing import Final

_BLOCK_PORTS: Final = 256
_FIRST_PORT: Final = 10_240
_END_PORT: Final = 32_768


class PortBlocks:
    """Blocks of ports; the first of a block is the one to listen on."""

    def __init__(self) -> None:
        self._taken: set[range] = set()

    def take(self) -> range:
        """A block whose ports are all free. Raises OSError where there is none."""
        starts = range(_FIRST_PORT, _END_PORT, _BLOCK_PORTS)
        for start in random.sample(starts, len(starts)):
            block = range(start, start + _BLOCK_PORTS)
            if block not in self._taken and all(map(_is_free, block)):
                self._taken.add(block)
                return block
        raise OSError("there is no block of free ports")

    def give_back(self, block: range) -> None:
        """A block is not used any more."""
        self._taken.discard(block)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Without it, connections of the past that wait for their end would count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True

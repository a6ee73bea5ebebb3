"""All connections of a server: room for them, and the end of all."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource

from mme.front.connection import Answering, Connection, Refusing
from mme.front.heads import Heads

_MANY = 4096  # descriptors; 8 bytes each


def expect_many() -> None:
    """Makes this process's table of descriptors large, while it has one thread.

    With more the kernel makes who opens the 257th wait until no other can see the former table:
    8 to 35 ms each time that it doubles, in which the loop answers nobody.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError):  # none can be had: the first connection will tell
        descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.close(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, min(_MANY, limit) - 1))
        finally:
            os.close(descriptor)


class Connections:
    """All connections of a server; called, it makes the protocol of a new one.

    Args:
        answer: answers a request by its `respond`; raises nothing; cancelled when its client goes.
        refuse: the answer to what is no HTTP, for a reason in one word.
        patience_seconds: to wait for a whole request head, and for an answer to be taken.
    """

    def __init__(self, answer: Answering, refuse: Refusing, patience_seconds: float) -> None:
        self.answer = answer
        self.refuse = refuse
        self.patience_seconds = patience_seconds
        self.connections: set[Connection] = set()
        self.heads = Heads()

    def __call__(self) -> Connection:
        """The protocol of one new connection."""
        return Connection(self)

    async def close(self, grace_seconds: float) -> None:
        """Ends all: the idle at once, those with something to say after that time at most."""
        for connection in self.connections:
            connection.finish()
        tasks = {connection.task: connection for connection in self.connections}
        if tasks:
            _, busy = await asyncio.wait(tasks, timeout=grace_seconds)
            for task in busy:
                tasks[task].abort()
            await asyncio.wait(tasks, timeout=grace_seconds)

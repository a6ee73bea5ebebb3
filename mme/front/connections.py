"""All connections of a server, and the end of all."""

from __future__ import annotations

import asyncio

from mme.front.connection import Answering, Connection, Refusing
from mme.front.heads import Heads


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

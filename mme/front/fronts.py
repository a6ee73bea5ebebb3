"""Several front processes on one address, in place of a listener in the engine's own process."""

from __future__ import annotations

import asyncio

from mme.config import LogConfig, ServerConfig
from mme.front.connection import Answering, Refusing
from mme.front.heads import Heads
from mme.front.remote import Desk
from mme.front.remote_process import FrontProcess, FrontStartError
from mme.front.shared_address import SharedAddress


class Fronts:
    """Listens from `start` on, as a `Listener` does.

    Args:
        answer: answers a request by its client's `send`.
        refuse: the answer to what is no HTTP.
        server: how many, and what they let in.
        log: how they log.
    """

    port: int

    def __init__(
        self, answer: Answering, refuse: Refusing, server: ServerConfig, log: LogConfig
    ) -> None:
        self._answer = answer
        self._refuse = refuse
        self._server = server
        self._log = log
        self._heads = Heads()
        self._address: SharedAddress | None = None
        self._processes: list[FrontProcess] = []

    async def start(self, host: str, port: int, setting: str) -> None:
        """Listens once all are up; `port` 0 is any free one.

        Raises:
            ConfigError: the address can't be had; the message names the `setting`.
            FrontStartError: a front can't be started.
        """
        self._address = await asyncio.to_thread(SharedAddress, host, port, setting)
        self.port = self._address.port
        self._processes = [
            FrontProcess(self._new_desk, self._address, self._server, self._log)
            for _ in range(self._server.fronts)
        ]
        try:
            async with asyncio.TaskGroup() as starts:
                for process in self._processes:
                    starts.create_task(process.start())
        except* FrontStartError as failed:
            raise FrontStartError(str(failed.exceptions[0])) from failed

    @property
    def is_connected(self) -> bool:
        """Whether any is left: once they have stopped, each ends with its last connection."""
        return any(process.is_running for process in self._processes)

    def problems(self) -> list[str]:
        """Why nobody can be served."""
        return [] if any(process.is_up for process in self._processes) else ["no front is up"]

    def describe(self) -> list[dict[str, object]]:
        """For `/state`."""
        return [process.describe() for process in self._processes]

    def stop(self) -> None:
        """No new connections."""
        for process in self._processes:
            process.drain()

    async def close(self, grace_seconds: float) -> None:
        """Ends them all: the idle at once, the others after that time at most."""
        async with asyncio.TaskGroup() as ends:
            for process in self._processes:
                ends.create_task(process.close(grace_seconds))
        if self._address is not None:
            self._address.close()

    def _new_desk(self) -> Desk:
        return Desk(self._answer, self._refuse, self._heads)

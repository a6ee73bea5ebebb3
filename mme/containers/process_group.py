"""A command in a process group of its own, of which nothing stays when it ends, or when we do.

Decision: a small guard in the group, not a child of the command, reads a pipe whose other end only
we hold; when we are gone, however that came, it kills the group. Rejected: the kernel's signal at a
parent's death, which reaches the command but not its children, and comes when the *thread* that
started it ends. The shell never reads the command: it is handed over as arguments.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Final

from mme.orphans import reap_group
from mme.output import Output

CONTAINER_OUTPUT: Final = "container_output"
_SHELL: Final = "/bin/sh"
_GUARDED: Final = """
exec 3<&0 </dev/null
( { trap '' HUP INT QUIT TERM; read -r _; kill -KILL 0; } <&3 >/dev/null 2>&1 & )
exec "$@" 3<&-
"""


class ProcessGroup:
    """A running command and all that it starts. Made by `spawn`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        lifeline: int,
        output: Output,
    ) -> None:
        self._process = process
        self._lifeline = lifeline
        self._output = output
        self.pid = process.pid

    @classmethod
    async def spawn(
        cls, container: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> ProcessGroup:
        """Starts a command; what it prints is logged under the container's name.

        Raises:
            OSError: the system can't start it.
        """
        theirs, lifeline = os.pipe()
        try:
            async with Output.piped(CONTAINER_OUTPUT, container=container) as (output, printing):
                process = await asyncio.create_subprocess_exec(
                    _SHELL, "-c", _GUARDED, container, *command,
                    stdin=theirs, stdout=printing, stderr=printing,
                    env=environment, start_new_session=True,
                )  # fmt: skip
        except BaseException:
            os.close(lifeline)  # which ends what may have been started
            raise
        finally:
            os.close(theirs)
        return cls(process, lifeline, output)

    async def wait(self) -> str:
        """Waits until the command ends; how it did, as the end of a sentence."""
        code = await self._process.wait()
        if code >= 0:
            return f"it exited with status {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"it was killed by {name}"

    async def end(self, grace_seconds: float) -> None:
        """Asks the group to end, and kills what has not after a while; returns when it is reaped.

        Cancellation: it is killed at once.
        """
        try:
            if self._process.returncode is None:
                self._signal(signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(grace_seconds):
                        await self._process.wait()
        finally:
            # The group's number can't be another's yet: the guard is still in it.
            self._signal(signal.SIGKILL)
            os.close(self._lifeline)
            await self._process.wait()
            await reap_group(self.pid)
            await self._output.finish()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

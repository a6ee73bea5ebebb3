"""What `mme serve` becomes once its settings are known: an interpreter without the command line.

Decision: the same process, executed anew, so that who started it keeps its id and its pipes. The
command line's libraries (typer, pydantic, rich) would take 8 MB for as long as the server lives.
The settings travel in a file in memory, for they may hold secrets that `ps` would show.
All its threads share two of malloc's arenas. By default each thread has one of its own and keeps in
it whatever it once needed; as workers, a dozen of ours hardly ever allocate at the same time.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import NoReturn

import msgspec

from mme.cli.door import door
from mme.config import Config

_M_ARENA_MAX = -8  # mallopt's
_ARENAS = 2


def become_server(settings: Config) -> NoReturn:
    """Replaces this process by the server. Raises OSError where it can't be executed."""
    descriptor = os.memfd_create("settings", 0)  # 0: it stays open across exec
    with open(descriptor, "wb", closefd=False) as file:
        file.write(msgspec.msgpack.encode(settings))
    os.lseek(descriptor, 0, os.SEEK_SET)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    mode = ["-X", "dev"] if sys.flags.dev_mode else []
    arguments = [sys.executable, *mode, "-P", "-m", "mme.cli.server", str(descriptor)]
    os.execv(sys.executable, arguments)  # noqa: S606 - no shell is wanted


def main() -> None:
    """Serves with the settings in the descriptor that the command line names."""
    for unused in ("rich", "better_exceptions"):  # structlog would take them where they are
        sys.modules[unused] = None  # type: ignore[assignment]
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:  # glibc's
        mallopt(_M_ARENA_MAX, _ARENAS)
    with open(int(sys.argv[1]), "rb") as file:  # noqa: PTH123 - it has no path
        settings = msgspec.msgpack.decode(file.read(), type=Config)
    with door():
        from mme.serving import serve  # noqa: PLC0415 - what it raises goes through the door

        sys.exit(serve(settings))


if __name__ == "__main__":
    main()

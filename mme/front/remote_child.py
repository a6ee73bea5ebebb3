"""The inside of a front process: listens, reads HTTP, and has the engine's process answer.

It ends when it is told to drain and no connection is left, or when the engine
has said its last; a signal is the engine's to answer.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from contextlib import suppress

import msgspec
import uvloop

from mme import logs
from mme.config import LogConfig, ServerConfig
from mme.front.connections import Connections, expect_many
from mme.front.listen import Listener
from mme.front.remote_channel import Channel
from mme.front.remote_protocol import Beat
from mme.front.remote_relay import Relay
from mme.front.tls import open_tls
from mme.workers.memory import die_with_parent

_BEAT_SECONDS = 1.0
_LOOK_SECONDS = 0.02
_GRACE_SECONDS = 0.5  # for the last words to be taken


class FrontOptions(msgspec.Struct, frozen=True):
    """What the server tells a front on its command line, as JSON."""

    channel_fd: int
    listen_fds: list[int]
    server: ServerConfig
    log: LogConfig


async def _run(options: FrontOptions) -> None:
    server = options.server
    relay = Relay(server.body_limit_bytes)
    relay.channel = Channel(relay.receive, relay.lost)
    engine = socket.socket(fileno=options.channel_fd)
    await asyncio.get_running_loop().create_connection(lambda: relay.channel, sock=engine)
    connections = Connections(relay.answer, relay.refuse, server.body_seconds)
    listener = Listener(connections, open_tls(server))
    await listener.take([socket.socket(fileno=fd) for fd in options.listen_fds])
    gc.freeze()  # it stays as long as the process
    await _serve(relay, listener, connections)
    with suppress(TimeoutError):
        async with asyncio.timeout(2 * _GRACE_SECONDS):
            await listener.close(_GRACE_SECONDS)


async def _serve(relay: Relay, listener: Listener, connections: Connections) -> None:
    while not relay.is_lost:
        if relay.is_draining:
            listener.stop()
            if not listener.is_connected:
                return
        relay.channel.send(Beat(0, len(connections.connections)))
        relay.changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS if relay.is_draining else _BEAT_SECONDS):
                await relay.changed.wait()


def run(told: str) -> None:
    """Runs a front with what its server told it, FrontOptions as JSON."""
    die_with_parent()
    expect_many()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    options = msgspec.json.decode(told.encode(), type=FrontOptions)
    logs.configure(options.log)
    uvloop.run(_run(options))

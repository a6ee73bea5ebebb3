"""The server's process: an Engine with the front before it, from start to a signal to stop.

Stop order: not ready, stop accepting, finish what is in flight, fail the rest; then the Engine ends
its workers and closes the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeAlias

import uvloop

from mme import logs
from mme.app.engine import Engine
from mme.config import Config
from mme.errors import ConfigError
from mme.front.bodies import Bodies
from mme.front.connections import expect_many
from mme.front.credentials import KeyFile
from mme.front.exposure import check_exposure
from mme.front.record import Recorder
from mme.front.server import Front
from mme.front.tls import Tls, open_tls
from mme.orphans import orphans_collected
from mme.threads import Threads
from mme.tracing import Tracing
from mme.workers.process import WorkerStartError

if TYPE_CHECKING:
    from mme.front.oip_grpc import OipGrpc

_THREADS = min(32, (os.cpu_count() or 1) + 4)  # for what blocks and has no pool of its own
_Started: TypeAlias = "tuple[Engine, Front, OipGrpc | None]"


def serve(config: Config) -> int:
    """Runs the server until it is told to stop; prints one line to standard output once it listens.

    SIGTERM and SIGINT tell it, and SIGHUP (its terminal has gone) where that is not ignored.

    Raises:
        ConfigError: a setting does not hold up against the world.
        WorkerStartError: a worker can't start.
    """
    expect_many()
    logs.configure(config.log)
    try:
        return uvloop.run(_serve(config))
    except WorkerStartError as error:
        said = f"; it said: {error.said}" if error.said else ""
        raise WorkerStartError(f"{error}{said}") from error
    finally:
        logs.close()


async def _serve(config: Config) -> int:
    async with orphans_collected():
        return await _serve_until_told(config)


async def _serve_until_told(config: Config) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(Threads(_THREADS, "blocking"))
    starting = asyncio.create_task(_start(config), name="start")
    hang_up = (signal.SIGHUP,) if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else ()
    for number in (signal.SIGTERM, signal.SIGINT, *hang_up):
        loop.add_signal_handler(number, _stop, stop, starting)
    try:
        engine, front, grpc = await starting
    except asyncio.CancelledError:
        return 0  # told to stop before it served
    _spare_the_collector()
    try:
        with contextlib.suppress(BrokenPipeError):
            print(_banner(config, engine.location, front.port), flush=True)  # noqa: T201 - what callers wait for
        await stop.wait()
    finally:
        engine.drain()
        async with asyncio.TaskGroup() as drains:
            drains.create_task(front.drain())
            if grpc is not None:
                drains.create_task(grpc.drain())
        await front.close()
        await engine.__aexit__(None, None, None)
    return 0


async def _start(config: Config) -> _Started:
    async with AsyncExitStack() as stack:
        server = config.server
        check_exposure(server)
        keys = KeyFile(server.access_keys) if server.access_keys is not None else None
        tls = open_tls(server)
        engine = await stack.enter_async_context(Engine(config))
        tracing = _open_tracing(config)
        front = Front(
            engine, server, engine.metrics, engine.management,
            keys=keys, tls=tls, tracing=tracing, log=config.log,
        )  # fmt: skip
        stack.push_async_callback(front.close)
        await front.start()
        grpc = None
        if server.grpc_port:
            grpc = _over_grpc(config, engine, front.bodies, keys=keys, tls=tls, tracing=tracing)
            await grpc.start()
        stack.pop_all()
    return engine, front, grpc


def _open_tracing(config: Config) -> Tracing | None:
    if config.traces.url is None:
        return None
    return Tracing(config.traces, {"mme.endpoint": config.server.endpoint_name})


def _over_grpc(  # noqa: PLR0913 - what it is made of
    config: Config,
    engine: Engine,
    bodies: Bodies,
    *,
    keys: KeyFile | None,
    tls: Tls | None,
    tracing: Tracing | None,
) -> OipGrpc:
    management = engine.management
    if management.operated is None or not management.is_alone:
        raise ConfigError("grpc_port: there is gRPC for the built-in engine alone only")
    _silence_grpc()
    try:
        from mme.front.oip_grpc import OipGrpc  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError("grpc_port: gRPC is not installed: pip install 'mme[grpc]'") from error
    return OipGrpc(
        engine,
        config.server,
        management.operated,
        bodies=bodies,
        calls=config.workers.queue_total,
        recorder=Recorder(engine.metrics, config.server.log_requests_per_second),
        keys=keys,
        tls=tls,
        tracing=tracing,
    )


def _silence_grpc() -> None:
    """Before its import: its core writes to standard error, and what clients sent as it came."""
    if os.environ.keys().isdisjoint({"GRPC_VERBOSITY", "GRPC_TRACE"}):
        os.environ["GRPC_VERBOSITY"] = "NONE"


def _spare_the_collector() -> None:
    """What is there now stays: collecting garbage need not walk it, nor come every 700 objects.

    A request leaves no cycles, so a collection mostly is a pause between two answers.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _stop(stop: asyncio.Event, starting: asyncio.Task[_Started]) -> None:
    stop.set()
    starting.cancel()  # nothing, once it has started


def _banner(config: Config, models: str, port: int) -> str:
    server = config.server
    host = f"[{server.host}]" if ":" in server.host else server.host
    address = f"{'http' if server.tls_cert is None else 'https'}://{host}:{port}"
    return f"mme is serving {models} at {address} as endpoint {server.endpoint_name}"

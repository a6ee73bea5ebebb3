"""Listens, answers through the dialects' routes, and drains.

Decision: connections and a table of our own; a web framework's router, middlewares and access log
cost more than all that a hot request does here.
While draining, connections that are kept still answer, once more each, and then close: to close
them unasked would lose the requests already on their way. Only those that stay silent are cut.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, suppress
from functools import partial

import structlog

from mme import logs
from mme.config import LogConfig, ServerConfig
from mme.errors import Draining, InvalidRequest, MmeError, Overloaded, RequestError
from mme.front.access import Action
from mme.front.bodies import Bodies
from mme.front.connection import Answering
from mme.front.connections import Connections
from mme.front.credentials import KeyFile
from mme.front.dialects import Management, open_dialects
from mme.front.exchange import Exchange, Request, Service
from mme.front.fronts import Fronts
from mme.front.gate import Gate
from mme.front.listen import Listener
from mme.front.open_gate import OpenGate
from mme.front.record import CLIENT_GONE_STATUS, Recorder
from mme.front.refusals import Refusals
from mme.front.routes import NoMatch, Route, RouteTable
from mme.front.runtime_errors import clean
from mme.front.tls import Tls
from mme.front.wire import Answer, format_request_id
from mme.metrics import Metrics
from mme.tracing import Tracing

__all__ = ["Front", "Service"]

_SILENT_SECONDS = 1.0  # a kept connection on which nothing came for so long has nothing on its way
_LOOK_SECONDS = 0.02
_FAIL_SECONDS = 0.5  # for those whose time is up to say so
_PATH_SHOWN = 200


class Front:
    """One listening socket, or one more for operators, and what answers behind them.

    Args:
        service: what is served.
        config: where to listen and what to let in.
        metrics: where requests are counted.
        management: what can be done to models; decides on the dialects.
        keys: who may ask for what; None: nobody is asked who they are.
        tls: None: plain HTTP. Front processes open their own, by the same settings.
        tracing: None: no request is traced. Closed with the front.
        log: how front processes log, where there are several.
    """

    port: int  # that it listens on, from `start` on
    admin_port: int  # as `port`, where operators have no other

    def __init__(  # noqa: PLR0913 - what it is made of
        self,
        service: Service,
        config: ServerConfig,
        metrics: Metrics,
        management: Management = Management(),  # noqa: B008 - frozen
        *,
        keys: KeyFile | None = None,
        tls: Tls | None = None,
        tracing: Tracing | None = None,
        log: LogConfig = LogConfig(),  # noqa: B008 - frozen
    ) -> None:
        self._service = service
        self._config = config
        self._log = log
        self._recorder = Recorder(metrics, config.log_requests_per_second)
        self._dialect, routes = open_dialects(
            service, self._readiness, config, management, self._recorder.recent, state=self._state
        )
        self._gate = Gate(keys, config) if keys is not None else OpenGate(config)
        self._tls = tls
        self._tracing = tracing
        self._tables = _tables(routes, apart=config.admin_port is not None)
        self._listeners: list[Listener | Fronts] = []
        self._fronts: Fronts | None = None  # where there are several, the first of these
        self._in_flight: set[Exchange] = set()
        self.bodies = Bodies(config.bodies_limit_bytes)  # gRPC's port counts its own there, too
        self._request_ids = _draw_request_ids()
        self._emptied = asyncio.Event()
        self._draining = self._failing = False
        self._refusals = Refusals()

    async def start(self) -> None:
        """Listens; whether it is ready is the service's to say.

        Raises:
            ConfigError: the address can't be had.
            FrontStartError: a front process can't be started.
        """
        config, self._clock = self._config, asyncio.get_running_loop().time
        for table in self._tables:
            self._listeners.append(self._listener(partial(self._answer, table)))
        await self._listeners[0].start(config.host, config.port, "host, port")
        if config.admin_port is not None:
            at = config.admin_host, config.admin_port
            await self._listeners[1].start(*at, "admin_host, admin_port")
        self.port, self.admin_port = self._listeners[0].port, self._listeners[-1].port

    def _listener(self, answer: Answering) -> Listener | Fronts:
        config = self._config
        if config.fronts > 1 and not self._listeners:  # operators' own address stays here
            self._fronts = Fronts(answer, self._unreadable, config, self._log)
            return self._fronts
        connections = Connections(answer, self._unreadable, config.body_seconds)
        return Listener(connections, self._tls)

    async def drain(self) -> None:
        """Not ready, no new connections; answers what is in flight or on its way, fails the rest.

        Returns once no connection is left, or all have been silent for a second, or the drain time
        is over.
        """
        self._draining = True
        for listener in self._listeners:
            listener.stop()
        structlog.get_logger().info(logs.DRAINING, in_flight=len(self._in_flight))
        ends_at = busy_at = self._clock()
        ends_at += self._config.drain_seconds
        while self._is_connected() and self._clock() < ends_at:
            if self._in_flight:
                busy_at = self._clock()
            elif self._clock() - busy_at >= _SILENT_SECONDS:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        await self._fail_all()

    async def close(self) -> None:
        """Fails what is still in flight and ends every connection."""
        self._draining = True
        for listener in self._listeners:
            listener.stop()
        await self._fail_all()
        for listener in self._listeners:
            await listener.close(_FAIL_SECONDS)
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)

    def _is_connected(self) -> bool:
        return any(listener.is_connected for listener in self._listeners)

    async def _fail_all(self) -> None:
        if self._failing:
            return
        self._failing = True
        for exchange in self._in_flight:
            exchange.given_up = True
            exchange.request.client.task.cancel()
        await self._empties(_FAIL_SECONDS)

    async def _empties(self, seconds: float) -> None:
        if self._in_flight:
            self._emptied.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._emptied.wait()

    def _readiness(self) -> list[str]:
        if self._draining:
            return ["draining"]
        problems = self._fronts.problems() if self._fronts is not None else []
        return [*self._service.readiness(), *problems]

    async def _state(self) -> Mapping[str, object]:
        fronts = {"fronts": self._fronts.describe()} if self._fronts is not None else {}
        return {**await self._service.tell_state(), **fronts}

    def _exchange(self, request: Request) -> Exchange:
        head, traced = request.head, None
        if self._tracing is not None:
            traced = self._tracing.begin(head.method, head.headers)
        return Exchange(
            request=request,
            head=head,
            request_id=next(self._request_ids),
            clock=self._clock,
            started=time.perf_counter(),
            server=self._config,
            bodies=self.bodies,
            traced=traced,
        )

    async def _answer(self, table: RouteTable, request: Request) -> None:
        exchange = self._exchange(request)
        head = request.head
        found = table.find(head.method, head.url.raw_path)
        if isinstance(found, NoMatch):
            self._miss(exchange, found)
            return
        route, exchange.segment = found.route, found.segment
        failure: Exception | None = None
        self._in_flight.add(exchange)
        try:
            await self._admit(route, exchange)
            try:
                answer = exchange.hold(await route.answer(exchange))
            except Overloaded:
                await asyncio.sleep(self._refusals.wait_seconds(self._clock()))
                raise
        except asyncio.CancelledError as gone:
            if not exchange.given_up or request.client.task.uncancel():
                self._recorder.answered(route, CLIENT_GONE_STATUS, exchange, gone)
                raise
            failure = Draining("The server shut down before the request was answered.")
            answer = route.refuse(failure, exchange)
        except Exception as error:  # noqa: BLE001 - the door: a client gets an answer, whatever broke
            failure, answer = error, self._refusal(route, exchange, error)
        finally:
            self._leave(exchange)
        self._respond(request, answer)
        self._recorder.answered(route, answer.status, exchange, failure)
        failure = None  # it holds this frame, and so the body, until the collector comes
        if answer.pieces is not None or exchange.answer_bytes:
            await self._see_off(route, exchange, answer.pieces)

    def _refusal(self, route: Route, exchange: Exchange, error: Exception) -> Answer:
        if not isinstance(error, MmeError):
            self._recorder.internal_error(exchange, error)
        return route.refuse(error, exchange)

    def _leave(self, exchange: Exchange) -> None:
        self._in_flight.discard(exchange)
        if exchange.held_bytes:
            self.bodies.drop(exchange.held_bytes, exchange.who)
        if self._draining and not self._in_flight:
            self._emptied.set()

    async def _see_off(
        self, route: Route, exchange: Exchange, pieces: AsyncGenerator[bytes, None] | None
    ) -> None:
        """Until all is taken, the client goes or may see no more; a drain does not wait for it."""
        if pieces is None:
            await exchange.taken()
            return
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    await self._admit(route, exchange)  # its key may have been taken back
                    await exchange.request.client.send_piece(piece)
        except (ConnectionError, RequestError):
            pass
        except Exception as error:  # noqa: BLE001 - the door: what has begun can only end
            self._recorder.internal_error(exchange, error)

    async def _admit(self, route: Route, exchange: Exchange) -> None:
        if self._failing and route.invokes:
            raise Draining("The server is shutting down.")
        if route.action is not Action.OPEN:
            await self._gate.admit(exchange, route.action)

    def _miss(self, exchange: Exchange, found: NoMatch) -> None:
        head = exchange.head
        target = f"{head.method} {clean(head.url.raw_path)[:_PATH_SHOWN]}"
        message = f"There is no operation {target}."
        answer = self._dialect.miss(found, message, exchange.request_id)
        self._respond(exchange.request, answer)
        self._recorder.answered(None, answer.status, exchange, InvalidRequest(message))

    async def _unreadable(self, reason: str) -> Answer:
        request_id = next(self._request_ids)
        answer = self._dialect.unreadable(request_id, reason)
        self._recorder.unreadable(answer.status, request_id, reason)
        return answer

    def _respond(self, request: Request, answer: Answer) -> None:
        # Where the body was not read, the next request can't be told from the rest of it.
        ends = answer.close or request.head.should_close or not request.content.is_eof()
        request.client.send(request, answer, keep=not (ends or self._draining))


def _tables(routes: list[Route], *, apart: bool) -> list[RouteTable]:
    """For clients and, where operators have an address of their own, for them."""
    if not apart:
        return [RouteTable(routes)]
    clients = [route for route in routes if not (route.action.manages or route.operates)]
    operators = [route for route in routes if route.action is not Action.INVOKE]
    return [RouteTable(clients), RouteTable(operators)]


def _draw_request_ids() -> Iterator[str]:
    while True:
        drawn = os.urandom(4096)  # for many at once: it is a system call
        for start in range(0, len(drawn), 16):
            yield format_request_id(drawn[start : start + 16])

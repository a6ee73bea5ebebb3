"""Another container over HTTP: the client that costs a bad container only its own requests.

Decisions: the breaker is asked before a place is waited for, so that nobody queues for what does
not answer, and again with the place, for it may have opened meanwhile. What the platform itself
asks (`call`, `ping`) is past both, so that a full or failing container can still be looked after.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from mme.containers.breaker import Attempt, Breaker, Outcome
from mme.containers.bulkhead import Bulkhead, Place
from mme.containers.sibling_http import Exchange, Request, SiblingHttp, timed_out
from mme.domain import Body, BodyStream, Handover, Invocation, Reply, Timings
from mme.errors import InvocationTimeout, ModelError, SiblingFailed, SiblingSilent
from mme.tracing import tell, trace_headers

_log = structlog.get_logger()
_SMALL_BYTES: Final = 64 * 1024  # up to here an answer is handed on whole
_TEXT_LIMIT: Final = 2048  # of an error's body
_PING_SECONDS: Final = 2.0
_GOOD: Final = range(200, 300)
_PING_GOOD: Final = 200
BREAKER_OPENED: Final = "container_refused"  # it does not answer: requests are refused at once
BREAKER_CLOSED: Final = "container_answers"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a container answered, good or bad."""

    status: int
    body: bytes


def invocation_headers(invocation: Invocation, target_model: str | None) -> dict[str, str]:
    """Pure: what goes along with an invocation's body (contract: runtime 1.11)."""
    given = {
        "Content-Type": invocation.content_type,
        "Accept": invocation.accept,
        "X-Amzn-SageMaker-Custom-Attributes": invocation.custom_attributes,
        "X-Amzn-SageMaker-Session-Id": invocation.session_id,
        "X-Amzn-SageMaker-Inference-Id": invocation.inference_id,
        "X-Amzn-SageMaker-Target-Model": target_model,
    }
    given |= trace_headers(invocation.trace_parent, invocation.trace_state)
    return {name: value for name, value in given.items() if value is not None}


class SiblingClient:
    """One container's connections, places and breaker; made while the event loop runs.

    Args:
        name: the container's hostname.
        base_url: such as http://127.0.0.1:8080.
        connections: requests at work at most.
        waiting: requests waiting for one of those at most.
        reply_limit_bytes: the largest answer.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        connections: int,
        waiting: int,
        reply_limit_bytes: int,
    ) -> None:
        self.name = name
        self.breaker = Breaker()
        self._http = SiblingHttp(name, base_url, reply_limit_bytes)
        self._bulkhead = Bulkhead(name, places=connections, waiting=waiting)

    async def close(self) -> None:
        """Drops all connections; what is under way fails."""
        await self._http.close()

    def move(self, base_url: str) -> None:
        """From now on it is reached elsewhere."""
        self._http.base_url = base_url

    def probe_soon(self) -> None:
        """There is reason to think that it answers again: the next request may try."""
        self.breaker.let_probe(_now())

    async def call(
        self,
        method: str,
        path: str,
        *,
        deadline: float,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
    ) -> Answer:
        """Asks something of the platform's own; any status is an answer.

        Raises:
            SiblingSilent: no answer, or one that is no HTTP.
            SiblingFailed: the answer is too large.
            InvocationTimeout: the deadline passed.
        Cancellation: the connection is dropped.
        """
        request = Request(
            method=method, path=path, headers=headers or {}, body=body, deadline=deadline
        )
        async with self._http.exchange(request) as exchange:
            return Answer(status=exchange.status, body=await exchange.read())

    async def ping(self) -> str | None:
        """Asks GET /ping: None when it is healthy, else what is wrong, as the end of a sentence."""
        deadline = asyncio.get_running_loop().time() + _PING_SECONDS
        try:
            answer = await self.call("GET", "/ping", deadline=deadline)
        except InvocationTimeout:
            return f"its ping is not answered within {_PING_SECONDS:g} s"
        except SiblingSilent as silent:
            return f"its ping is not answered: {silent.what}"
        except ModelError:
            return "its ping is answered with what is no answer"
        good = answer.status == _PING_GOOD
        return None if good else f"its ping is answered with {answer.status}"

    async def invoke(
        self, path: str, invocation: Invocation, target_model: str | None = None
    ) -> Reply:
        """Posts an invocation and reads the whole answer.

        Args:
            path: such as /invocations.
            invocation: its body may be a stream.
            target_model: what the container is told as such.

        Raises:
            SiblingFailed: it answered with an error, with too much, or not at all.
            InvocationTimeout: the deadline passed.
            Overloaded: as many wait for it as may.
            MmeError: what the invocation's body raised while it was sent.
        Cancellation: the connection is dropped.
        """
        asked_at = _now()
        async with self._conversation(path, invocation, target_model) as exchange:
            body = await exchange.read()
        return Reply(
            body=body,
            content_type=exchange.content_type,
            custom_attributes=exchange.custom_attributes,
            timings=_timings(asked_at, exchange.began_at),
        )

    @asynccontextmanager
    async def open(
        self, path: str, invocation: Invocation, target_model: str | None = None
    ) -> AsyncIterator[Handover]:
        """As `invoke`; an answer that is large, or of unknown length, is read while it arrives."""
        asked_at = _now()
        async with AsyncExitStack() as stack:
            exchange = await stack.enter_async_context(
                self._conversation(path, invocation, target_model)
            )
            body: Body = BodyStream(chunks=exchange, length_bytes=exchange.length_bytes)
            if exchange.length_bytes is not None and exchange.length_bytes <= _SMALL_BYTES:
                body = await exchange.read()
                await stack.aclose()  # its place is free while the next container works
            yield Handover(
                body=body,
                content_type=exchange.content_type,
                custom_attributes=exchange.custom_attributes,
                timings=_timings(asked_at, exchange.began_at),
            )

    def describe(self) -> dict[str, object]:
        """Its state, for `/state`."""
        return {
            "breaker": self.breaker.state,
            "in_flight": self._bulkhead.at_work,
            "waiting": self._bulkhead.waiting,
        }

    @asynccontextmanager
    async def _conversation(
        self, path: str, invocation: Invocation, target_model: str | None
    ) -> AsyncIterator[Exchange]:
        exchange = self._http.exchange(
            Request(
                method="POST",
                path=path,
                headers=invocation_headers(invocation, target_model),
                body=invocation.body,
                deadline=invocation.deadline,
            )
        )
        asked_at = _now()
        self._refuse_if_open()
        with await self._place(invocation.deadline) as place:
            self._refuse_if_open()
            attempt = self.breaker.admit(_now())
            exchange.on_eof = place.leave
            try:
                async with exchange:
                    if exchange.status not in _GOOD:
                        text = await exchange.read_text(_TEXT_LIMIT)
                        raise SiblingFailed(text, exchange.status)
                    yield exchange
            except ModelError as error:
                if error.container in {None, self.name}:  # else who reads the answer failed
                    spent = _timings(asked_at, exchange.began_at)
                    error.spent_seconds = spent.predict_seconds
                    tell(spent, error)
                raise
            finally:
                self._settle(attempt, exchange.outcome)

    async def _place(self, deadline: float) -> Place:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._bulkhead.enter()
        except TimeoutError:
            raise timed_out(self.name) from None

    def _refuse_if_open(self) -> None:
        now = _now()
        if self.breaker.refuses(now):
            seconds = math.ceil(self.breaker.retry_seconds(now))
            when = f"it is tried again in {seconds} s" if seconds else "it is being tried again"
            raise SiblingSilent(self.name, f"its last requests failed, {when}")

    def _settle(self, attempt: Attempt, outcome: Outcome) -> None:
        was_closed = self.breaker.state == "closed"
        self.breaker.settle(attempt, outcome, _now())
        is_closed = self.breaker.state == "closed"
        if was_closed and not is_closed:
            _log.error(BREAKER_OPENED, container=self.name)
        elif is_closed and not was_closed:
            _log.info(BREAKER_CLOSED, container=self.name)


def _timings(asked_at: float, began_at: float) -> Timings:
    return Timings(queue_seconds=began_at - asked_at, predict_seconds=_now() - began_at)


def _now() -> float:
    return asyncio.get_running_loop().time()

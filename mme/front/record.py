"""What is told of each request afterwards: one log line and the metrics of an endpoint.

Of requests that went well only so many a second have a line: at thousands of them a second the line
is a tenth of what a request costs. The next line says how many had none; failures always have one.
Decision: the model cache and the pool count what they do (waiting, hits, queues, batches) where
they do it, failures included; here stands what only the front knows: that it was asked, what it
answered, how long it took in all.
"""

from __future__ import annotations

import time
from typing import Any

import structlog

from mme import logs
from mme.domain import Reply
from mme.errors import Fault, MmeError, ModelError
from mme.front.exchange import Exchange
from mme.front.grpc_call import Call, Operation
from mme.front.recent import Recent
from mme.front.routes import Route
from mme.metrics import Counter, Metrics
from mme.tracing import Traced

CLIENT_GONE_STATUS = 499  # nothing was sent; the number that proxies log for it
_REASON_LIMIT = 500
_MICROSECONDS = 1e6

_Called = Route | Operation
_Asked = Exchange | Call


class Recorder:
    """Writes the line and counts, once a request."""

    def __init__(self, metrics: Metrics, lines_per_second: int) -> None:
        self.recent = Recent(time.time)
        self._metrics = metrics
        self._lines_per_second = lines_per_second
        self._second, self._lines, self._unlogged = 0, 0, 0
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind()
        self._write_info = logs.info_writer()
        self._requests: dict[tuple[str, int], Counter] = {}  # `labels()` costs more than the count

    def answered(
        self, route: _Called | None, status: int, exchange: _Asked, error: BaseException | None
    ) -> None:
        """Records one request.

        Args:
            route: None where nothing is at that path.
            status: what was sent, as HTTP has it; CLIENT_GONE_STATUS: nobody was left to get it.
            exchange: the request, with the invocation and reply as far as it came to them.
            error: why it failed; None where it did not.
        """
        now = time.perf_counter()
        seconds = now - exchange.started
        if exchange.traced is not None:
            _end_trace(exchange.traced, exchange, status, error)
        name, invokes = (route.name, route.invokes) if route else ("none", False)
        self._count(name, status)
        if invokes:
            self._count_invocation(seconds, exchange.reply, error, exchange.request_id)
            self.recent.note(exchange.invocation, seconds, status, error)
            if error is None and not self._may_tell(int(now)):
                return
        told: dict[str, object] = {
            "request_id": exchange.request_id,
            "route": name,
            "status": status,
            "outcome": "ok" if error is None else type(error).__name__,
            "seconds": seconds,
            "bytes_in": len(exchange.body or b""),
        }
        if exchange.caller is not None:
            told["caller"] = exchange.caller.grant.name
        _tell(exchange, told)
        if error is not None:
            self._write_failure(told, error)
        elif invokes:
            self._write_good(told)
        else:
            self._log.debug(logs.REQUEST, **told)

    def unreadable(self, status: int, request_id: str, reason: str) -> None:
        """Records what came in place of a request."""
        self._count("unreadable", status)
        self._log.info(
            logs.REQUEST, request_id=request_id, route="unreadable", status=status, outcome=reason
        )

    def internal_error(self, exchange: _Asked, error: Exception) -> None:
        """Logs what nobody expected, with its traceback; clients never see it."""
        self._log.error(logs.INTERNAL_ERROR, request_id=exchange.request_id, exc_info=error)

    def _write_good(self, told: dict[str, object]) -> None:
        if self._unlogged:
            told["unlogged"], self._unlogged = self._unlogged, 0
        if self._write_info is not None:
            self._write_info(logs.REQUEST, told)
        else:
            self._log.info(logs.REQUEST, **told)

    def _write_failure(self, told: dict[str, object], error: BaseException) -> None:
        if isinstance(error, ModelError) and error.container is not None:
            told["container"] = error.container
        told["reason"] = str(error)[:_REASON_LIMIT]
        self._level(error)(logs.REQUEST, **told)

    def _may_tell(self, second: int) -> bool:
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= self._lines_per_second:
            return True
        self._unlogged += 1
        return False

    def _count(self, route: str, status: int) -> None:
        counter = self._requests.get((route, status))
        if counter is None:
            counter = self._metrics.requests.labels(route, str(status))
            self._requests[route, status] = counter
        counter.inc()

    def _count_invocation(
        self,
        seconds: float,
        reply: Reply | None,
        error: BaseException | None,
        request_id: str,
    ) -> None:
        metrics = self._metrics
        metrics.invocations.inc()
        metrics.request_seconds.observe(seconds, request_id)
        predict_seconds = _model_seconds(reply) if reply else 0.0
        metrics.overhead_latency.observe((seconds - predict_seconds) * _MICROSECONDS)
        if reply:
            metrics.model_latency.observe(predict_seconds * _MICROSECONDS, request_id)
        if isinstance(error, ModelError):
            metrics.invocation_model_errors.inc()
            if 400 <= error.original_status < 500:  # noqa: PLR2004 - HTTP's own classes
                metrics.invocation_4xx.inc()
            elif error.original_status >= 500:  # noqa: PLR2004
                metrics.invocation_5xx.inc()

    def _level(self, error: BaseException) -> Any:  # noqa: ANN401 - a method of structlog's
        if not isinstance(error, Exception):
            return self._log.info
        fault = error.fault if isinstance(error, MmeError) else Fault.SERVER
        if fault is Fault.CLIENT:
            return self._log.info
        foreseen = fault is Fault.MODEL or (isinstance(error, MmeError) and error.retryable)
        return self._log.warning if foreseen and fault is not Fault.DEPENDENCY else self._log.error


def _model_seconds(reply: Reply) -> float:
    if reply.hops:
        return sum(hop.seconds for hop in reply.hops)
    return reply.timings.predict_seconds


def _tell(exchange: _Asked, told: dict[str, object]) -> None:
    invocation, reply = exchange.invocation, exchange.reply
    if invocation is not None:
        told["endpoint"] = invocation.endpoint
        told["model"] = invocation.target_model
    if reply is None:
        return
    told["variant"] = reply.variant
    told["bytes_out"] = len(reply.body)
    if reply.hops:
        told["containers"] = {hop.container: hop.seconds for hop in reply.hops}
    if reply.cache_hit is not None:
        told["cache"] = "hit" if reply.cache_hit else "miss"
    timings = reply.timings
    told["load_seconds"] = timings.load_seconds
    told["queue_seconds"] = timings.queue_seconds
    told["predict_seconds"] = timings.predict_seconds


def _end_trace(traced: Traced, exchange: _Asked, status: int, error: BaseException | None) -> None:
    invocation, reply = exchange.invocation, exchange.reply
    told: dict[str, str | int] = {"aws.request_id": exchange.request_id}
    if isinstance(exchange, Exchange):
        path = exchange.head.url.raw_path
        told |= {"http.response.status_code": status, "url.path": path}
    else:
        told |= {"rpc.system": "grpc", "rpc.method": exchange.method}
        told["rpc.grpc.status_code"] = exchange.code
    if invocation is not None:
        told["mme.endpoint"] = invocation.endpoint
        told["mme.model"] = invocation.target_model or ""
    if reply is not None and reply.cache_hit is not None:
        told["mme.cache"] = "hit" if reply.cache_hit else "miss"
    traced.tracing.end(traced, told, reply, error)

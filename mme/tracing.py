"""Traces in OpenTelemetry's form: one a request, over all the rooms that it goes through.

Decision: the library is an extra and is imported only where traces are asked for. Elsewhere a stage
costs one look at a context variable, and stages that hot requests go through (queue, prediction)
have no span of their own while they run: they are told afterwards, out of the reply's timings.
A load runs in the context of the request that began it, so its stages are in that one's trace.
W3C's `traceparent` is taken from who asks, and handed to siblings, sampled or not.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from mme.config import TraceConfig
from mme.domain import Reply, Timings
from mme.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

TRACE_PARENT: Final = "traceparent"
TRACE_STATE: Final = "tracestate"
_PARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_STATE = re.compile(r"[ -~]{1,512}")
_NANOSECONDS = 1e9
_FLUSH_MILLISECONDS = 2_000
_NOT_TRACED = nullcontext()


class Traced(Struct, eq=False):
    """A request that is being traced."""

    span: Span
    tracing: Tracing


_current: ContextVar[Traced | None] = ContextVar("traced", default=None)


class Tracing:
    """Makes traces and sends them, from a thread of its own.

    Args:
        config: where to, and of how many requests.
        attributes: of all of them, e.g. the endpoint's name.

    Raises:
        ConfigError: the library is not installed.
    """

    def __init__(self, config: TraceConfig, attributes: Mapping[str, str]) -> None:
        self._provider = _open(config, attributes)
        self._tracer = self._provider.get_tracer("mme")

    def begin(self, name: str, headers: Mapping[str, str]) -> Traced:
        """A request has come. `end` has to follow, in the same task."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 - an extra
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        parent = read_parent(headers.get(TRACE_PARENT))
        carrier = {} if parent is None else {TRACE_PARENT: parent}
        if parent is not None and TRACE_STATE in headers:
            carrier[TRACE_STATE] = headers[TRACE_STATE]
        context = TraceContextTextMapPropagator().extract(carrier)
        span = self._tracer.start_span(name, context=context, kind=SpanKind.SERVER)
        traced = Traced(span, self)
        _current.set(traced)
        return traced

    def end(
        self,
        traced: Traced,
        attributes: Mapping[str, str | int | float],
        reply: Reply | None,
        error: BaseException | None,
    ) -> None:
        """It was answered, or failed."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - an extra

        if reply is not None and not reply.hops:  # containers have told of their own parts
            tell(reply.timings)
        ended_at = time.time_ns()
        _current.set(None)
        span = traced.span
        span.set_attributes(attributes)
        if error is not None:
            span.set_status(StatusCode.ERROR, type(error).__name__)
        span.end(ended_at)

    def close(self) -> None:
        """Sends what is left, for two seconds at most."""
        self._provider.force_flush(_FLUSH_MILLISECONDS)
        self._provider.shutdown()

    def add(
        self,
        traced: Traced,
        name: str,
        started_at: int,
        ended_at: int,
        error: BaseException | None = None,
    ) -> None:
        """A span of what is over already; times are in nanoseconds since 1970."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - an extra

        span = self._tracer.start_span(name, context=_context(traced), start_time=started_at)
        if error is not None:
            span.set_status(StatusCode.ERROR, type(error).__name__)
        span.end(ended_at)

    @contextmanager
    def stage(
        self, traced: Traced, name: str, attributes: Mapping[str, str | int]
    ) -> Iterator[None]:
        """A span around what is done inside."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - an extra

        span = self._tracer.start_span(name, context=_context(traced), attributes=dict(attributes))
        token = _current.set(Traced(span, self))
        try:
            yield
        except BaseException as error:
            span.set_status(StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            _current.reset(token)
            span.end()


def stage(name: str, **attributes: str | int) -> AbstractContextManager[None]:
    """A span around what is done inside, where the request at work is traced."""
    traced = _current.get()
    return _NOT_TRACED if traced is None else traced.tracing.stage(traced, name, attributes)


def tell(timings: Timings, error: BaseException | None = None) -> None:
    """The queue and the prediction, which came last, one after the other, and may have failed."""
    traced = _current.get()
    if traced is None or not traced.span.is_recording():
        return
    ended_at = time.time_ns()
    predicted_at = ended_at - int(timings.predict_seconds * _NANOSECONDS)
    queued_at = predicted_at - int(timings.queue_seconds * _NANOSECONDS)
    traced.tracing.add(traced, "queue", queued_at, predicted_at)
    traced.tracing.add(traced, "predict", predicted_at, ended_at, error)


def tell_failure(name: str, seconds: float, error: BaseException) -> None:
    """What failed just now, and took so long."""
    traced = _current.get()
    if traced is not None and traced.span.is_recording():
        failed_at = time.time_ns()
        started_at = failed_at - int(seconds * _NANOSECONDS)
        traced.tracing.add(traced, name, started_at, failed_at, error)


def read_parent(value: str | None) -> str | None:
    """A `traceparent` header's value, if it is one of version 00."""
    return value if value is not None and _PARENT.fullmatch(value) else None


def read_state(values: Iterable[str]) -> str | None:
    """What `tracestate` headers say together; None where that is nothing, too long, or no text."""
    value = ",".join(values)
    return value if _STATE.fullmatch(value) else None


def trace_headers(asked: str | None, state: str | None) -> dict[str, str | None]:
    """What a sibling is told: the span at work, else what the request itself came with."""
    traced = _current.get()
    if traced is not None:
        context = traced.span.get_span_context()
        flags = int(context.trace_flags)
        asked = f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"
        state = context.trace_state.to_header() or None
    return {TRACE_PARENT: asked, TRACE_STATE: state if asked is not None else None}


def _context(traced: Traced) -> Context:
    from opentelemetry.trace import set_span_in_context  # noqa: PLC0415 - an extra

    return set_span_in_context(traced.span)


def _open(config: TraceConfig, attributes: Mapping[str, str]) -> TracerProvider:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import (  # noqa: PLC0415
            ParentBased,
            TraceIdRatioBased,
        )
    except ImportError as error:
        raise ConfigError(
            "traces: OpenTelemetry is not installed: pip install 'mme[traces]'"
        ) from error
    provider = TracerProvider(
        resource=Resource.create({"service.name": "mme", **attributes}),
        sampler=ParentBased(TraceIdRatioBased(config.share_ratio)),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=config.url)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider

"""The walk of one invocation: choose, then container after container, under one deadline.

What one container answers is the next one's body, its content type handed on verbatim; the client's
Accept is for the last one only, the target model for the one that has models (contract: runtime 3).
A body goes on to the next container while it arrives, unless its length is unknown: then it is
collected, up to the limit, for a container is not called with what may be cut off.
"""

from __future__ import annotations

import random
import time
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from mme.containers.base import Container
from mme.domain import Body, BodyStream, Handover, Hop, Invocation, Reply
from mme.errors import HandoverTooLarge, ModelError
from mme.routing.catalog import Catalog
from mme.routing.choose import choose
from mme.tracing import stage, tell


class Pipeline:
    """Invokes what the catalog has now; `catalog` may be swapped at any time.

    Args:
        payload_limit_bytes: what one container may hand to the next.
    """

    def __init__(self, catalog: Catalog, payload_limit_bytes: int) -> None:
        self.catalog = catalog
        self._limit_bytes = payload_limit_bytes

    async def invoke(self, invocation: Invocation) -> Reply:
        """Answers an invocation.

        Raises:
            InvalidRequest: nothing fits its headers; otherwise what a container raises, a
                ModelError with the container's name; HandoverTooLarge.
        Cancellation: the container at work is cancelled; later ones are not called.
        """
        route = choose(self.catalog, invocation, random.random())  # noqa: S311 - a traffic split
        if len(route.containers) > 1:
            reply = await self._walk(route.containers, invocation)
        else:
            reply = await self._ask(route.containers[0], invocation)
        return replace(reply, variant=route.variant)

    async def _ask(self, container: Container, invocation: Invocation) -> Reply:
        if container.metrics is None:
            return await container.invoke(invocation)
        with _Stage(container) as stage:
            reply = await container.invoke(invocation)
            tell(reply.timings)
        return replace(reply, hops=(stage.hop(),))

    async def _walk(self, containers: tuple[Container, ...], invocation: Invocation) -> Reply:
        *earlier, last = containers
        step, attributes, hops = invocation, None, []
        async with AsyncExitStack() as handovers:
            for container, taker in zip(earlier, containers[1:], strict=True):
                with _Stage(container) as stage:
                    handover = await handovers.enter_async_context(
                        container.open(replace(_for(container, step, invocation), accept=None))
                    )
                    tell(handover.timings)
                    body = await self._checked(handover, container, taker)
                hops.append(stage.hop())
                attributes = handover.custom_attributes or attributes
                step = replace(step, body=body, content_type=handover.content_type)
            reply = await self._ask(last, _for(last, step, invocation))
        return replace(
            reply,
            hops=(*hops, *reply.hops),
            custom_attributes=reply.custom_attributes or attributes,
        )

    async def _checked(self, handover: Handover, giver: Container, taker: Container) -> Body:
        body, limit_bytes = handover.body, self._limit_bytes
        if isinstance(body, bytes):
            size_bytes = len(body)
        elif body.length_bytes is not None:
            size_bytes = body.length_bytes
        else:
            body = await _collected(body, limit_bytes)
            size_bytes = len(body)
        if size_bytes > limit_bytes:
            raise HandoverTooLarge(giver.hostname, taker.hostname, size_bytes, limit_bytes)
        return body


class _Stage:
    """One container's part: its time, its failures, and its name on them."""

    def __init__(self, container: Container) -> None:
        self._container = container.hostname
        self._metrics = container.metrics
        self._seconds = 0.0
        self._span = stage(container.hostname)

    def __enter__(self) -> Self:
        self._span.__enter__()
        self._began = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._seconds = time.perf_counter() - self._began
        self._span.__exit__(kind, error, trace)
        name, metrics = self._container, self._metrics
        if metrics is None:
            return
        metrics.invocations.inc()
        metrics.latency.observe(self._seconds * 1e6)
        if not isinstance(error, ModelError):
            return
        error.container = error.container or name
        if error.container != name:
            return  # an earlier one's body broke off while this one read it
        if 400 <= error.original_status < 500:  # noqa: PLR2004 - HTTP's own classes
            metrics.errors_4xx.inc()
        else:
            metrics.errors_5xx.inc()

    def hop(self) -> Hop:
        return Hop(container=self._container, seconds=self._seconds)


def _for(container: Container, step: Invocation, asked: Invocation) -> Invocation:
    target_model = asked.target_model if container.multi_model else None
    return replace(step, target_model=target_model)


async def _collected(body: BodyStream, limit_bytes: int) -> bytes:
    """The body, or the first of it that is over the limit."""
    chunks, size_bytes = [], 0
    async for chunk in body.chunks:
        chunks.append(chunk)
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            break
    return b"".join(chunks)

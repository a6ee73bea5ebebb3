"""The multi-model engine in this process: lease the target model, predict with it.

A request whose worker ended before it can have begun is asked again, of a freshly loaded model; one
that had begun is not, for it may be what ended the worker.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from mme.cache.lease import Lease
from mme.cache.model_cache import ModelCache
from mme.domain import Handover, Invocation, ModelKey, Reply, Timings
from mme.errors import InvalidRequest, InvocationTimeout, PredictionFailed, WorkerLost
from mme.metrics import ContainerMetrics, Metrics
from mme.tracing import tell, tell_failure
from mme.workers.batch import Outcome
from mme.workers.pool import Pool
from mme.workers.protocol import Ask, Faulted

_ATTEMPTS: Final = 3
_ANYTHING: Final = (None, "*/*")


class MultiModelEngine:
    """A container that serves every model of one store.

    Args:
        default_accept: of requests that do not say what they take, as an earlier container of a
            pipeline is asked.
        own_metrics: where it is one of several.
    """

    multi_model = True

    def __init__(  # noqa: PLR0913 - what it is called, what it works with, how it answers
        self,
        hostname: str,
        *,
        cache: ModelCache,
        pool: Pool,
        metrics: Metrics,
        own_metrics: ContainerMetrics | None = None,
        default_accept: str | None = None,
    ) -> None:
        self.hostname = hostname
        self.metrics = own_metrics
        self._default_accept = default_accept
        self._cache = cache
        self._pool = pool
        self._of_endpoint = metrics

    async def invoke(self, invocation: Invocation) -> Reply:
        """Predicts with the target model.

        Raises:
            InvalidRequest: no target model.
            InvocationTimeout: the model was in memory but did not answer by the deadline.
            what the lease raises; PredictionFailed; WorkerLost; Overloaded.
        Cancellation: drops the request if it has not begun.
        """
        key = invocation.target_model
        if key is None:
            raise InvalidRequest(
                f"Request {invocation.request_id} is missing a target model header.",
                "TARGET_MODEL_HEADER_MISSING",
            )
        body, asked_at = invocation.body, 0.0
        ask = self._ask(invocation, body if isinstance(body, bytes) else await body.read())
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                lease = self._cache.hit(key) or await self._cache.acquire(
                    key, invocation.deadline, invocation.api_key
                )
                try:
                    asked_at = time.monotonic()
                    outcome = await self._pool.predict(
                        lease.residency, ask, invocation.deadline, invocation.api_key
                    )
                    return self._reply(lease, outcome, len(ask.body))
                except WorkerLost as lost:
                    if lost.started or attempt == _ATTEMPTS:
                        raise
                except TimeoutError:
                    raise self._too_late() from None
                finally:
                    lease.release()
        except BaseException as error:  # whatever it was, and though its client has gone
            self._note_failure(key, error, len(ask.body), asked_at)
            raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    @asynccontextmanager
    async def open(self, invocation: Invocation) -> AsyncIterator[Handover]:
        """As `invoke`; what a model answers is there whole."""
        reply = await self.invoke(invocation)
        yield Handover(
            body=reply.body,
            content_type=reply.content_type,
            custom_attributes=reply.custom_attributes,
            timings=reply.timings,
        )

    def problem(self) -> str | None:
        """Why it can't answer now; None when it can."""
        if self._pool.ready_count:
            return None
        return f"container {self.hostname}: no worker is ready"

    def describe(self) -> dict[str, object]:
        """Its state, for `/state`."""
        return {
            "hostname": self.hostname,
            "kind": "built-in",
            "multi_model": True,
            "problem": self.problem(),
        }

    async def load(self, key: ModelKey, deadline: float) -> None:
        """Loads `key` unless it is in memory. Raises as a lease does."""
        async with self._cache.lease(key, deadline):
            pass

    def _ask(self, invocation: Invocation, body: bytes) -> Ask:
        accept = self._default_accept if invocation.accept in _ANYTHING else invocation.accept
        return Ask(body, invocation.content_type, accept, invocation.custom_attributes)

    def _note_failure(
        self, key: ModelKey, error: BaseException, asked_bytes: int, asked_at: float
    ) -> None:
        self._cache.residents.accounts.failed(key, error, asked_bytes)
        if asked_at and not isinstance(error, PredictionFailed):  # which is told with its times
            tell_failure("predict", time.monotonic() - asked_at, error)

    def _too_late(self) -> InvocationTimeout:
        return InvocationTimeout(
            "Your invocation timed out while waiting for a response from container "
            f"{self.hostname}."
            " Review the latency metrics for each container in Amazon CloudWatch, resolve the"
            " issue, and try again."
        )

    def _reply(self, lease: Lease, outcome: Outcome, asked_bytes: int) -> Reply:
        self._of_endpoint.queue_seconds.observe(outcome.queue_seconds)
        result = outcome.result
        timings = Timings(
            load_seconds=lease.load_seconds,
            queue_seconds=outcome.queue_seconds,
            predict_seconds=outcome.predict_seconds,
        )
        if isinstance(result, Faulted):
            failed = PredictionFailed(result.message, result.status, detail=result.detail)
            tell(timings, failed)
            raise failed
        self._cache.blame.answered(lease.entry.version.digest)
        if (account := lease.residency.account) is not None:
            account.answered(asked_bytes, len(result.body))
        return Reply(
            body=result.body,
            content_type=result.content_type,
            custom_attributes=result.custom_attributes,
            cache_hit=lease.hit,
            version=lease.entry.version.etag,
            timings=timings,
        )

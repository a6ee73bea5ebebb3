"""Every metric, declared in one place: SageMaker's names and units where it has them, `mme_*` for the rest.

SageMaker's metrics carry `EndpointName` and `VariantName`; contract: runtime 2.8. Labels are
bounded: no path, and no model's name but those of the few. Decision: one registry per engine, so that two engines in one
process do not mix. What is counted for every request is counted by the event loop alone, without
the library's locks and walks over buckets, and handed to it when somebody looks. Of single models
there are a few, those asked most lately; of all there is the ledger, see `usage`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client import Counter as LockedCounter
from prometheus_client import Histogram as LockedHistogram
from prometheus_client import Summary as LockedSummary
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

# a table: one metric a line
# fmt: off
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_MICROSECONDS = tuple(second * 1e6 for second in _SECONDS)
_OUTCOMES = ("loaded", "recalled", "failed")
_COMPILED = ("compiled", "refused", "no_room")
_REASONS = ("evicted", "unloaded", "superseded", "deleted", "lost", "moved", "cooled")
_REQUESTS = (1, 2, 4, 8, 16, 32, 64)


class Counter(LockedCounter):
    """A counter of the event loop's."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._count = 0.0

    def inc(self, amount: float = 1, exemplar: Mapping[str, str] | None = None) -> None:
        """Counts; `exemplar` is the library's and has no meaning here."""
        self._count += amount

    def set_total(self, total: float) -> None:
        """Takes over what was counted elsewhere."""
        self._count = total

    def _child_samples(self) -> Iterable[Sample]:
        self._value.set(self._count)
        return super()._child_samples()


class Histogram(LockedHistogram):
    """A histogram of the event loop's."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._counts = [0] * len(self._upper_bounds)
        self._total = 0.0
        self._examples: dict[int, tuple[str, float]] = {}  # the latest of each bucket

    def observe(self, amount: float, exemplar: Mapping[str, str] | str | None = None) -> None:
        """Counts; `exemplar` is the request's id, where that is known."""
        bucket = bisect_left(self._upper_bounds, amount)
        self._counts[bucket] += 1
        self._total += amount
        if isinstance(exemplar, str):
            self._examples[bucket] = exemplar, amount

    def _child_samples(self) -> Iterable[Sample]:
        self._sum.set(self._total)
        for bucket, count in zip(self._buckets, self._counts, strict=True):
            bucket.set(count)
        for number, (request_id, amount) in self._examples.items():
            self._buckets[number].set_exemplar(Exemplar({"request_id": request_id}, amount, None))
        return super()._child_samples()


class Summary(LockedSummary):
    """A summary of the event loop's."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._observed, self._total = 0, 0.0

    def observe(self, amount: float) -> None:
        """Counts."""
        self._observed += 1
        self._total += amount

    def _child_samples(self) -> Iterable[Sample]:
        self._count.set(self._observed)
        self._sum.set(self._total)
        return super()._child_samples()


class Shown(Protocol):
    """What one model used since it was first shown, or since a while before."""

    @property
    def model(self) -> str:
        """Its name."""
        ...

    @property
    def requests(self) -> int:
        """Answered, well or not."""
        ...

    @property
    def errors(self) -> int:
        """Those not answered well."""
        ...

    @property
    def compute_seconds(self) -> float:
        """Of workers."""
        ...


class ModelMetrics(Collector):
    """The models asked most lately; `shown` is set before each look, with each one's bytes in memory.

    Decision: made anew at each look: a series that nobody asks for any more has to vanish, and the
    library's labels stay for ever.
    """

    def __init__(self) -> None:
        self.shown: Sequence[tuple[Shown, int]] = ()

    def collect(self) -> Iterable[Metric]:
        """The families, though nothing be in them."""
        label = ("model",)
        requests = CounterMetricFamily("mme_model_requests", "Requests of a model that is among the most asked.", labels=label)
        errors = CounterMetricFamily("mme_model_errors", "Those of them that failed, whoever's fault it was.", labels=label)
        seconds = CounterMetricFamily("mme_model_compute_seconds", "Seconds that workers spent on it.", labels=label)
        held = GaugeMetricFamily("mme_model_memory_bytes", "Bytes that it takes in this server's memory now, where it is there.", labels=label)
        for model, resident_bytes in self.shown:
            name = (model.model,)
            requests.add_metric(name, model.requests)
            errors.add_metric(name, model.errors)
            seconds.add_metric(name, model.compute_seconds)
            if resident_bytes:  # else it is not here: gone, or in another container, unmeasured
                held.add_metric(name, resident_bytes)
        return requests, errors, seconds, held


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerMetrics:
    """The metrics of one container of several."""

    latency: Histogram  # microseconds
    invocations: Counter
    errors_4xx: Counter
    errors_5xx: Counter
    up: Gauge
    models: Gauge  # of a multi-model sibling


class Metrics:
    """The metrics of one endpoint variant."""

    def __init__(self, endpoint_name: str, variant_name: str) -> None:
        self.registry = CollectorRegistry()
        names, values = ("EndpointName", "VariantName"), (endpoint_name, variant_name)

        def times(name: str, text: str) -> Histogram:
            return Histogram(name, text, names, buckets=_MICROSECONDS, registry=self.registry).labels(*values)

        def counter(name: str, text: str) -> Counter:
            return Counter(name, text, names, registry=self.registry).labels(*values)

        self.invocations = counter("Invocations", "Invocations received.")
        self.invocation_4xx = counter("Invocation4XXErrors", "Invocations for which the model gave a 4xx.")
        self.invocation_5xx = counter("Invocation5XXErrors", "Invocations for which the model gave a 5xx.")
        self.invocation_model_errors = counter("InvocationModelErrors", "Invocations without a good answer by the model.")
        self.model_latency = times("ModelLatency", "Microseconds the worker took.")
        self.overhead_latency = times("OverheadLatency", "Microseconds an invocation took besides.")
        self.model_loading_wait_time = times("ModelLoadingWaitTime", "Microseconds an invocation waited for its model.")
        self.model_loading_time = times("ModelLoadingTime", "Microseconds a worker took to load a model.")
        self.model_unloading_time = times("ModelUnloadingTime", "Microseconds a worker took to give memory back.")
        self.model_downloading_time = times("ModelDownloadingTime", "Microseconds to fetch and unpack a model.")
        self.model_cache_hit = Summary(
            "ModelCacheHit", "1 where the model was in memory, else 0.", names, registry=self.registry
        ).labels(*values)
        self.loaded_model_count = Gauge(
            "LoadedModelCount", "Models in memory.", names, registry=self.registry
        ).labels(*values)
        self._declare_containers(endpoint_name, variant_name)
        self._declare_own()
        self.top_models = ModelMetrics()
        self.registry.register(self.top_models)
        ProcessCollector(registry=self.registry)

    def _declare_containers(self, endpoint_name: str, variant_name: str) -> None:
        """Of an endpoint of several; each has the dimension ContainerName besides."""
        registry, names = self.registry, ("EndpointName", "VariantName", "ContainerName")
        self._place = (endpoint_name, variant_name)
        self.container_latency = Histogram("ContainerLatency", "Microseconds a container took.", names, buckets=_MICROSECONDS, registry=registry)
        self.container_invocations = Counter("ContainerInvocations", "Calls of a container.", names, registry=registry)
        self.container_4xx = Counter("ContainerInvocation4XXErrors", "Calls that a container answered with a 4xx.", names, registry=registry)
        self.container_5xx = Counter("ContainerInvocation5XXErrors", "Calls that a container answered with a 5xx, or with nothing.", names, registry=registry)
        self.containers_up = Gauge("mme_container_up", "1 where a container's last ping was answered well, else 0.", names, registry=registry)
        self.container_models = Gauge("mme_container_models", "Models loaded in a multi-model sibling.", names, registry=registry)

    def of_container(self, hostname: str) -> ContainerMetrics:
        """Those of one container."""
        labels = (*self._place, hostname)
        return ContainerMetrics(
            latency=self.container_latency.labels(*labels),
            invocations=self.container_invocations.labels(*labels),
            errors_4xx=self.container_4xx.labels(*labels),
            errors_5xx=self.container_5xx.labels(*labels),
            up=self.containers_up.labels(*labels),
            models=self.container_models.labels(*labels),
        )

    def _declare_own(self) -> None:
        registry = self.registry
        self.requests = Counter("mme_requests_total", "Requests by route and status; calls over gRPC with the status that HTTP has for it.", ("route", "status"), registry=registry)
        self.request_seconds = Histogram("mme_request_seconds", "Seconds to answer an invocation.", buckets=_SECONDS, registry=registry)
        self.queue_seconds = Histogram("mme_queue_seconds", "Seconds an invocation waited for its worker.", buckets=_SECONDS, registry=registry)
        self.predict_seconds = Histogram("mme_predict_seconds", "Seconds a batch ran in its worker.", buckets=_SECONDS, registry=registry)
        self.batch_requests = Histogram("mme_batch_requests", "Requests in a batch.", buckets=_REQUESTS, registry=registry)
        self.memory_bytes = Gauge("mme_memory_bytes", "Bytes in the ledger: budget, reserved, resident, leaving.", ("state",), registry=registry)
        self.disk_bytes = Gauge("mme_disk_bytes", "Bytes of unpacked models on disk: budget, used.", ("state",), registry=registry)
        self.loads = Counter("mme_loads_total", "Models loaded, or recalled where their worker had kept them, by outcome.", ("outcome",), registry=registry)
        self.models_compiled = Counter("mme_models_compiled_total", "Hot tree models that were compiled, by outcome.", ("outcome",), registry=registry)
        self.evictions = Counter("mme_evictions_total", "Models taken out of memory, by reason.", ("reason",), registry=registry)
        self.fetched_bytes = Counter("mme_fetched_bytes_total", "Bytes read from the store.", registry=registry)
        self.fetch_restarts = Counter("mme_fetch_restarts_total", "Fetches begun again: the object broke off, came damaged or was overwritten meanwhile.", registry=registry)
        self.workers_ready = Gauge("mme_workers_ready", "Workers ready to serve.", registry=registry)
        self.worker_restarts = Counter("mme_worker_restarts_total", "Workers replaced after dying or being ended.", registry=registry)
        self.queued_requests = Gauge("mme_queued_requests", "Requests waiting for a worker.", registry=registry)
        self.tenant_paced = Gauge("mme_tenant_paced", "Whether a tenant that floods is held to what leaves the server room: 1 or 0.", registry=registry)
        self.running_requests = Gauge("mme_running_requests", "Requests handed to a worker and not answered.", registry=registry)
        self.workers = Gauge("mme_workers", "Workers that there should be, ready or not.", registry=registry)
        self.worker_bytes = Gauge("mme_worker_bytes", "Bytes of all workers: private to them, of models that are in memory, kept of what models left (lost), held beyond what models are charged (excess).", ("state",), registry=registry)
        self.loading_models = Gauge("mme_loading_models", "Models being fetched or loaded.", registry=registry)
        self.disk_models = Gauge("mme_disk_models", "Unpacked models on disk.", registry=registry)
        self.ledger_unwritten = Gauge("mme_ledger_unwritten_models", "Models whose usage could not be written to the ledger yet.", registry=registry)
        self.ledger_lost = Counter("mme_ledger_lost_models_total", "Times that a model's usage of a few seconds was given up, unwritten.", registry=registry)

        for outcome in _OUTCOMES:  # from 0 on: the first one would be no increase otherwise
            self.loads.labels(outcome)
        for outcome in _COMPILED:
            self.models_compiled.labels(outcome)
        for reason in _REASONS:
            self.evictions.labels(reason)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The exposition and its content type: OpenMetrics, with exemplars, where `accept` asks for it."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

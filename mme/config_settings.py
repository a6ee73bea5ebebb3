"""The table of settings: one line each, from which flags, variables, mme.toml and docs/settings.md come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mme.config_sections import Config
from mme.config_values import PARSERS


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One setting: `name` is the key in mme.toml, `--name-with-dashes` the flag, `MME_NAME` the variable."""

    name: str
    section: str  # the attribute of Config
    attribute: str  # the attribute of that section
    kind: str  # a key of PARSERS
    help: str

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return "MME_" + self.name.upper()

    @property
    def default(self) -> Any:  # noqa: ANN401 - as many types as settings have
        """The default as the dataclass has it; None where it is worked out at start."""
        return getattr(getattr(Config(), self.section), self.attribute)


def _setting(name: str, place: str, kind: str, text: str) -> Setting:
    section, attribute = place.split(".")
    return Setting(name=name, section=section, attribute=attribute, kind=kind, help=text)


# fmt: off
SETTINGS: tuple[Setting, ...] = (
    _setting("models", "store.models", "text", "Where the models are: s3://bucket/prefix/ or a directory."),
    _setting("container", "server.container", "container", "The container contract: multi, single, off; auto: as SageMaker's variables say."),
    _setting("mode", "pipeline.mode", "mode", "Of several containers: all in a pipeline (Serial), or the one that a request names (Direct)."),
    _setting("pipeline_payload_limit", "pipeline.payload_limit_bytes", "bytes", "Largest body from one container of a pipeline to the next."),
    _setting("host", "server.host", "text", "Address to listen on."),
    _setting("port", "server.port", "port", "Port to listen on; 0 takes any free one."),
    _setting("fronts", "server.fronts", "count", "Processes that read and write HTTP; one is the engine's own, more are beside it, for machines with many cores."),
    _setting("grpc_port", "server.grpc_port", "port", "Port of the Open Inference Protocol over gRPC (needs the extra grpc); 0: none."),
    _setting("endpoint_name", "server.endpoint_name", "endpoint", "The endpoint's name in /endpoints/NAME/invocations."),
    _setting("variant_name", "server.variant_name", "endpoint", "The production variant's name in replies."),
    _setting("region", "server.region", "text", "AWS region named in error texts."),
    _setting("account_id", "server.account_id", "text", "AWS account named in error texts."),
    _setting("workers", "workers.workers", "count", "Worker processes. Default: the cores allowed less one, at least one."),
    _setting("threads", "workers.threads", "count", "BLAS and OpenMP threads per worker. Default: cores // workers."),
    _setting("preload", "workers.preload", "names", "Frameworks each worker imports at start, e.g. xgboost,torch."),
    _setting("trust", "workers.trust", "trust", "code: models may run code while loading, as on SageMaker; data: they may not."),
    _setting("compile_trees", "workers.compile_trees", "onoff", "Whether hot XGBoost models are compiled in the background (needs the extra onnx), where the answers are the same."),
    _setting("memory", "cache.memory_bytes", "bytes", "Budget for resident models. Default: memory_share of what the cgroup or host has."),
    _setting("memory_share", "cache.memory_share_ratio", "ratio", "Share of all memory that models may fill when memory is not set."),
    _setting("memory_reserve", "cache.memory_reserve_ratio", "ratio", "Share of all memory to keep free, 32 MiB or an eighth at least; when less is, the budget shrinks."),
    _setting("eviction", "cache.eviction", "eviction", "Who leaves memory first: the least recently used (lru), or the least uses x load seconds / bytes (gdsf)."),
    _setting("disk", "disk.disk_bytes", "bytes", "Budget for unpacked models on disk."),
    _setting("disk_high", "disk.high_ratio", "ratio", "Above this share of it, the least recently used go from disk in the background, ..."),
    _setting("disk_low", "disk.low_ratio", "ratio", "... until no more than this share is taken."),
    _setting("cache_dir", "disk.cache_dir", "path", "Directory of the disk tier; one server each."),
    _setting("s3_endpoint", "store.s3_endpoint", "url", "Another S3 than AWS, e.g. http://127.0.0.1:9000."),
    _setting("s3_connections", "store.s3_connections", "count", "Connections to S3 at most."),
    _setting("s3_connect_seconds", "store.s3_connect_seconds", "seconds", "Time to connect to S3."),
    _setting("s3_read_seconds", "store.s3_read_seconds", "seconds", "Time S3 may be silent during a read."),
    _setting("s3_ranges", "store.s3_ranges", "count", "Ranges of one object fetched at once, for an S3 that is far; 1: each object in one GET."),
    _setting("s3_range_bytes", "store.s3_range_bytes", "bytes", "Bytes of a range; what is no larger is fetched in one GET."),
    _setting("pin", "cache.pin", "models", "Models that are loaded at start and never evicted."),
    _setting("prewarm", "cache.prewarm", "models", "Models that are loaded at start, as far as there is memory."),
    _setting("restore", "cache.restore", "onoff", "Whether a restart brings back what was in memory, the hottest first."),
    _setting("refresh_seconds", "cache.refresh_seconds", "seconds", "An overwritten or deleted object is noticed within this time."),
    _setting("load_seconds", "cache.load_seconds", "seconds", "Time a download and load may take in all."),
    _setting("load_concurrency", "cache.load_concurrency", "count", "Models being downloaded or loaded at once, at most; one a worker while requests wait for it."),
    _setting("failure_seconds", "cache.failure_seconds", "seconds", "A failed load is remembered this long; doubles each time."),
    _setting("failure_limit_seconds", "cache.failure_limit_seconds", "seconds", "A failed load is remembered this long at most."),
    _setting("pressure_seconds", "cache.pressure_seconds", "seconds", "Time between looks at the machine's free memory."),
    _setting("churn_seconds", "cache.churn_seconds", "age", "A model asked for within this time is not evicted for one asked for less than twice as often; that gets 503 and Retry-After."),
    _setting("copy_waiting", "cache.copy_waiting", "count", "A model with this many requests unanswered, for a second, gets a copy in another worker."),
    _setting("copy_idle_seconds", "cache.copy_idle_seconds", "seconds", "A copy that was not needed for this long is given up."),
    _setting("access_keys", "server.access_keys", "path", "File of the keys that clients sign or come with, and what each may do; security.md has its form."),
    _setting("no_auth", "server.no_auth", "flag", "Ask nobody who they are, on an address that others can reach."),
    _setting("tls_cert", "server.tls_cert", "path", "Certificate chain in PEM, for HTTPS (and gRPC); a new one is taken while running."),
    _setting("tls_key", "server.tls_key", "path", "Its private key in PEM, not encrypted."),
    _setting("tls_client_ca", "server.tls_client_ca", "path", "Certificates in PEM that must have signed every client's own."),
    _setting("admin_host", "server.admin_host", "text", "Address of the admin port."),
    _setting("admin_port", "server.admin_port", "port", "Port for operators: /state, /metrics, /models and loading are there only; 0 takes any free one. Default: the same port as clients."),
    _setting("invocation_seconds", "server.invocation_seconds", "seconds", "Time an invocation may take in all; a cold one waits this long for its model."),
    _setting("body_limit", "server.body_limit_bytes", "bytes", "Largest request body."),
    _setting("bodies_limit", "server.bodies_limit_bytes", "bytes", "Bytes of request bodies, and of large answers until they are taken, here at once, over HTTP and gRPC; more get 503."),
    _setting("body_seconds", "server.body_seconds", "seconds", "Time a client may take to send its request, or keep a connection of gRPC without calls."),
    _setting("answer_limit", "workers.answer_limit_bytes", "bytes", "Largest answer of a model or container."),
    _setting("drain_seconds", "server.drain_seconds", "seconds", "Time to finish requests after SIGTERM."),
    _setting("unpacked_limit", "disk.unpacked_limit_bytes", "bytes", "Most a tarball may unpack to."),
    _setting("unpack_ratio_limit", "disk.unpack_ratio_limit", "factor", "Most a tarball may grow while unpacking, as a factor (small ones are exempt)."),
    _setting("unpack_members_limit", "disk.unpack_members_limit", "count", "Most members of a tarball."),
    _setting("unpack_threads", "disk.unpack_threads", "count", "Tarballs unpacked at once."),
    _setting("start_seconds", "workers.start_seconds", "seconds", "Time a worker may take to become ready."),
    _setting("heartbeat_seconds", "workers.heartbeat_seconds", "seconds", "Time between a worker's signs of life."),
    _setting("poll_seconds", "workers.poll_seconds", "moment", "Time a worker looks for the next request before it sleeps, while lone ones follow each other closely; not where there are as many workers as cores."),
    _setting("silence_seconds", "workers.silence_seconds", "seconds", "A worker silent for this long is ended and replaced."),
    _setting("grace_seconds", "workers.grace_seconds", "seconds", "Time past its limit after which a running batch ends its worker."),
    _setting("queue_per_model", "workers.queue_per_model", "count", "Requests waiting for one model at most; more get 503."),
    _setting("queue_total", "workers.queue_total", "count", "Requests waiting in all at most, and calls over gRPC at once; more get 503."),
    _setting("tenant_by", "tenants.tenant_by", "tenant", "Whose a request is, where tenants share: its model's, its API key's (key), or that of so many leading segments of the model's path."),
    _setting("pace_above", "tenants.pace_above_ratio", "share", "While the server's event loop wants a core for more than this share of its time, a tenant with most of all requests and over ten times its due is paced; 1: nobody is."),
    _setting("batch_requests", "workers.batch_requests", "count", "Requests of a model that are predicted at once, at most."),
    _setting("batch_rows", "workers.batch_rows", "count", "Rows of requests that are predicted at once, about; a larger one goes alone."),
    _setting("batch_bytes", "workers.batch_bytes", "bytes", "Bytes of requests that are predicted at once; a larger one goes alone."),
    _setting("recycle", "workers.recycle_bytes", "bytes", "A worker that keeps this much of what models left, or comes to hold this much beyond what its models are charged, and over a quarter of that, is replaced."),
    _setting("recycle_seconds", "workers.recycle_seconds", "seconds", "... but not until it has been up for this long."),
    _setting("isolation", "isolation.mode", "isolation", "What keeps workers to themselves: auto, all that the kernel has; strict, no start without it; off."),
    _setting("worker_user", "isolation.user", "text", "User that workers become where the server is root: a name or number, or same; auto: nobody, if it can reach what it must."),
    _setting("worker_network", "isolation.network", "switch", "Whether models may open sockets; auto: in the container modes only."),
    _setting("worker_memory", "isolation.memory_bytes", "bytes", "Memory that one worker may take before it is refused more. Default: no limit of its own."),
    _setting("worker_disk", "isolation.disk_bytes", "bytes", "What one worker may have on disk; more ends it, and no file of it can be larger. Default: an eighth of the file system, 1 GiB at least."),
    _setting("requirements", "environments.requirements", "switch", "Whether a model's code/requirements.txt is installed; auto: unless trust is data."),
    _setting("package_index", "environments.package_index", "index", "Where requirements come from: an index's URL, or none for --wheels alone."),
    _setting("wheels", "environments.wheels", "path", "A directory of wheels that requirements may come from, too."),
    _setting("environments_disk", "environments.disk_bytes", "bytes", "Budget on disk for environments built from requirements; a build that writes more than those in use leave of it is ended."),
    _setting("build_seconds", "environments.build_seconds", "seconds", "Time that installing one model's requirements may take."),
    _setting("environment_workers", "workers.environment_workers", "count", "Workers per environment built from requirements."),
    _setting("environment_idle_seconds", "workers.environment_idle_seconds", "seconds", "An environment's workers end when they have had no model for this long."),
    _setting("ledger", "usage.ledger", "path", "File in which every model's usage is kept, by the hour; auto: ledger.sqlite3 in cache_dir, none in the container modes; off: none."),
    _setting("ledger_days", "usage.days", "count", "Days that usage is kept."),
    _setting("metrics_models", "usage.top_models", "count", "Models with metrics of their own: those asked most in the last minutes."),
    _setting("cloudwatch", "cloudwatch.push", "onoff", "Whether metrics are pushed to CloudWatch, as boto3 finds it."),
    _setting("cloudwatch_seconds", "cloudwatch.period_seconds", "seconds", "Time between two pushes."),
    _setting("cloudwatch_namespace", "cloudwatch.namespace", "text", "Namespace of the invocation metrics; AWS itself takes none that begins with AWS/ from its customers."),
    _setting("log_level", "log.log_level", "level", "debug, info, warning or error."),
    _setting("log_format", "log.log_format", "format", "json, text, or auto (text on a terminal)."),
    _setting("traces", "traces.url", "url", "Where traces go: an OTLP/HTTP receiver, e.g. http://127.0.0.1:4318/v1/traces (needs the extra traces)."),
    _setting("trace_share", "traces.share_ratio", "share", "Share of requests that are traced, unless who asks has decided (traceparent)."),
    _setting("log_requests", "server.log_requests_per_second", "count", "Lines a second, at most, for requests that went well; failures always have one."),
)
# fmt: on
BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}
assert all(setting.kind in PARSERS for setting in SETTINGS)  # noqa: S101 - a typo in the table above

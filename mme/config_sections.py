"""Each room's settings, frozen, with their defaults; config_settings.py says what they mean."""

from __future__ import annotations

from dataclasses import dataclass, field

from mme.config_containers import ContainerConfig
from mme.config_tenants import TenantConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """The front: where it listens, what it calls itself, what it lets in."""

    container: str = "auto"  # what it stands for is the command line's to say; here it is "off"
    host: str = "127.0.0.1"
    port: int = 8080  # 0: any free port
    fronts: int = 1  # processes that read HTTP; 1: the engine's own
    grpc_port: int = 0  # 0: none
    endpoint_name: str = "mme"
    variant_name: str = "AllTraffic"
    region: str = "us-east-1"  # appears in error texts only
    account_id: str = "000000000000"  # appears in error texts only
    access_keys: str | None = None  # None: nobody is asked who they are
    no_auth: bool = False  # said aloud, where others could reach it
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    admin_host: str = "127.0.0.1"
    admin_port: int | None = None  # None: operators ask on the same port as clients
    body_limit_bytes: int = 25_000_000
    bodies_limit_bytes: int = 512 * 1024**2  # of all bodies that are here at once
    body_seconds: float = 30.0
    invocation_seconds: float = 60.0
    drain_seconds: float = 25.0
    log_requests_per_second: int = 100  # of those that went well


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreConfig:
    """Where models come from and how they are fetched."""

    models: str = ""
    s3_endpoint: str | None = None
    s3_connections: int = 32
    s3_connect_seconds: float = 5.0
    s3_read_seconds: float = 30.0
    s3_ranges: int = 1  # of one object, fetched at once; 1: one GET an object
    s3_range_bytes: int = 4 * 1024**2


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskConfig:
    """The disk tier and what an artifact may unpack to."""

    cache_dir: str = "~/.cache/mme"
    disk_bytes: int = 20 * 1024**3
    high_ratio: float = 0.95  # above it, what was used least recently goes, down to the low one
    low_ratio: float = 0.9
    unpacked_limit_bytes: int = 10 * 1024**3
    unpack_ratio_limit: float = 200.0
    unpack_members_limit: int = 10_000
    unpack_threads: int = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheConfig:
    """What stays in memory, and how fresh it is."""

    memory_bytes: int | None = None  # None: `memory_share_ratio` of what the cgroup or host has
    memory_share_ratio: float = 0.6
    memory_reserve_ratio: float = 0.05  # of all memory, kept free: less, and the budget shrinks
    eviction: str = "lru"
    pin: tuple[str, ...] = ()  # never evicted, and loaded at start
    prewarm: tuple[str, ...] = ()  # loaded at start
    restore: str = "on"
    refresh_seconds: float = 30.0
    load_seconds: float = 360.0
    load_concurrency: int = 16
    failure_seconds: float = 5.0  # first back-off after a failed load; doubles
    failure_limit_seconds: float = 300.0
    pressure_seconds: float = 1.0
    churn_seconds: float = 0.0  # 0: whoever goes first goes for any newcomer
    copy_waiting: int = 16  # unanswered requests that ask for a second copy
    copy_idle_seconds: float = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class IsolationConfig:
    """What keeps a worker from the rest of the machine."""

    mode: str = "auto"
    user: str = "auto"
    network: str = "auto"
    memory_bytes: int | None = None  # None: no limit of its own
    disk_bytes: int | None = None  # filled: an eighth of the file system, a GiB at least
    directory: str | None = None  # filled: in the cache's; None: in the system's temporary one
    by_platform: bool = False  # filled: who runs the container puts models anywhere

    @property
    def disk_limit_bytes(self) -> int:
        """What a worker may have on disk."""
        return 1024**3 if self.disk_bytes is None else self.disk_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerConfig:
    """The shared pool of inference workers."""

    workers: int | None = None  # None: the cores allowed, less one, at least one
    threads: int | None = None  # None: cores // workers
    preload: tuple[str, ...] = ()
    trust: str = "code"
    compile_trees: str = "off"
    start_seconds: float = 60.0
    heartbeat_seconds: float = 1.0
    poll_seconds: float = 0.001
    silence_seconds: float = 30.0
    invocation_seconds: float = 60.0  # the server's: a batch running longer ends its worker
    grace_seconds: float = 5.0
    load_seconds: float = 360.0  # the cache's: a load running longer ends its worker
    queue_per_model: int = 1_000
    queue_total: int = 10_000
    batch_requests: int = 64
    batch_rows: int = 1024
    batch_bytes: int = 4 * 1024**2
    answer_limit_bytes: int = 25_000_000  # as for requests: AWS has one limit for both
    recycle_bytes: int = 64 * 1024**2  # or a quarter of what its models take, if that is more
    recycle_seconds: float = 60.0
    environment_workers: int = 1
    environment_idle_seconds: float = 300.0
    isolation: IsolationConfig = field(default_factory=IsolationConfig)  # filled


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentConfig:
    """Python environments for models that bring requirements."""

    requirements: str = "auto"
    trust: str = "code"  # filled from the workers'
    package_index: str | None = None
    wheels: str | None = None
    disk_bytes: int = 10 * 1024**3
    build_seconds: float = 300.0

    @property
    def enabled(self) -> bool:
        """Whether any are built: installing packages runs code, so `trust data` switches it off."""
        return self.requirements == "on" or (self.requirements == "auto" and self.trust == "code")


@dataclass(frozen=True, kw_only=True, slots=True)
class UsageConfig:
    """What is written down of every model's usage."""

    ledger: str = "auto"  # or a file, or off
    days: int = 35
    top_models: int = 20  # that have metrics of their own


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudWatchConfig:
    """Metrics pushed to CloudWatch."""

    push: str = "off"
    period_seconds: float = 60.0
    namespace: str = "AWS/SageMaker"


@dataclass(frozen=True, kw_only=True, slots=True)
class LogConfig:
    """What is logged, and how."""

    log_level: str = "info"
    log_format: str = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceConfig:
    """Which requests are traced, and who is told."""

    url: str | None = None  # None: no traces
    share_ratio: float = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineConfig:
    """How an endpoint of several containers calls them."""

    mode: str = "Serial"
    payload_limit_bytes: int = 5 * 1024**2  # from one container to the next


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """All of it. Rooms get a slice, never this."""

    server: ServerConfig = field(default_factory=ServerConfig)
    containers: tuple[ContainerConfig, ...] = ()  # none: the built-in engine alone
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    disk: DiskConfig = field(default_factory=DiskConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    workers: WorkerConfig = field(default_factory=WorkerConfig)
    tenants: TenantConfig = field(default_factory=TenantConfig)
    isolation: IsolationConfig = field(default_factory=IsolationConfig)
    environments: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    usage: UsageConfig = field(default_factory=UsageConfig)
    cloudwatch: CloudWatchConfig = field(default_factory=CloudWatchConfig)
    log: LogConfig = field(default_factory=LogConfig)
    traces: TraceConfig = field(default_factory=TraceConfig)

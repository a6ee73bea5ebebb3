"""How one worker is started: what it is told, and what it sees of the environment."""

from __future__ import annotations

import site
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from mme.config import IsolationConfig, WorkerConfig
from mme.workers.child_options import ChildOptions
from mme.workers.protocol import frame_limit_bytes

if TYPE_CHECKING:
    from mme.workers.environments import Environment
    from mme.workers.sandbox import Plan

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS",
)  # fmt: skip
_PASSED_ON = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH",
    "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
_PASSED_ON_PREFIXES = ("SAGEMAKER_", "SM_")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSpec:
    """How to start one worker."""

    index: int  # of its place in the pool, for the log
    threads: int
    trust_code: bool
    preload: tuple[str, ...]
    compile_trees: bool
    start_seconds: float
    heartbeat_seconds: float
    poll_seconds: float
    answer_limit_bytes: int
    packages: Path | None  # a directory of packages that stand before the server's own
    isolation: IsolationConfig

    @classmethod
    def of(
        cls, index: int, config: WorkerConfig, threads: int, environment: Environment | None
    ) -> Self:
        """As the settings say. An environment's own packages may not hold what is preloaded."""
        packages = environment.directory if environment else None
        return cls(
            index=index,
            threads=threads,
            trust_code=config.trust == "code",
            preload=() if packages else config.preload,
            compile_trees=config.compile_trees == "on" and packages is None,
            start_seconds=config.start_seconds,
            heartbeat_seconds=config.heartbeat_seconds,
            poll_seconds=config.poll_seconds,
            answer_limit_bytes=config.answer_limit_bytes,
            packages=packages,
            isolation=config.isolation,
        )

    @property
    def frame_limit_bytes(self) -> int:
        """The largest message that it may send."""
        return frame_limit_bytes(self.answer_limit_bytes)

    def options(self, fds: tuple[int, int], home: Path | None, plan: Plan | None) -> str:
        """What the worker is told on its command line; see `spawn_worker`, `ChildOptions`."""
        options = ChildOptions(
            predict_fd=fds[0],
            control_fd=fds[1],
            trust_code=self.trust_code,
            heartbeat_seconds=self.heartbeat_seconds,
            poll_seconds=self.poll_seconds,
            answer_limit_bytes=self.answer_limit_bytes,
            preload=list(self.preload),
            compile_trees=self.compile_trees,
            home=str(home) if home else None,
            plan=plan,
        )
        return msgspec.json.encode(options).decode()


def worker_environment(
    base: Mapping[str, str],
    threads: int,
    home: Path | None = None,
) -> dict[str, str]:
    """What a worker sees: a short list, no credentials, thread counts that fit the cores.

    Args:
        base: the server's environment.
        threads: for BLAS and OpenMP.
        home: a directory of the worker's own, for what libraries write; None: the server's.
    """
    kept = {
        name: value
        for name, value in base.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }
    kept.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    kept["OMP_WAIT_POLICY"] = "PASSIVE"  # an idle OpenMP thread must not spin on a neighbour's core
    kept["MALLOC_ARENA_MAX"] = "2"  # two threads allocate; more arenas only keep memory
    kept["MIMALLOC_PURGE_DELAY"] = "0"  # CatBoost's own allocator: it kept 75 of 75 MB, now 3
    kept["PYTHONUNBUFFERED"] = "1"
    kept["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime reports home otherwise, from version 1.29
    if home is not None:
        kept.update(TMPDIR=str(home), HOME=str(home))
        kept["PYTHONUSERBASE"] = site.getuserbase()  # it is looked for in HOME otherwise
    return kept

"""The server's half of a worker's isolation: its directory, its user, what the child is to do."""

from __future__ import annotations

from pathlib import Path

from mme.config import IsolationConfig
from mme.workers.sandbox import Plan
from mme.workers.sandbox_landlock import kernel_version
from mme.workers.sandbox_scratch import Scratch
from mme.workers.sandbox_user import choose_user, hide_memory


def prepare(
    config: IsolationConfig, *reads: Path | None
) -> tuple[Scratch, Plan] | tuple[None, None]:
    """Makes a worker's directory and plan; none where workers are not isolated.

    Args:
        config: how they are to be isolated.
        reads: what it may read and run besides Python, the system and its own; None: nothing.

    Raises:
        ConfigError: `worker_user` can't be had.
        OSError: the directory can't be made.
    """
    if config.mode == "off":
        return None, None
    _close_to_workers()
    root = None if config.directory is None else Path(config.directory).expanduser().resolve()
    if root is not None:
        root.mkdir(mode=0o711, parents=True, exist_ok=True)
    wanted = "same" if config.user == "auto" and config.by_platform else config.user
    user, no_user = choose_user(wanted, root)
    scratch = Scratch(root, user)
    return scratch, Plan(
        directory=str(scratch.directory),
        strict=config.mode == "strict",
        network=config.network == "on" or (config.network == "auto" and config.by_platform),
        reads_all=config.by_platform,
        user=user,
        no_user=None if config.by_platform else no_user,
        memory_bytes=config.memory_bytes,
        file_bytes=config.disk_limit_bytes,
        reads=tuple(map(str, filter(None, reads))),
    )


def _close_to_workers() -> None:
    """Landlock keeps workers from the server's memory; without it the server hides its own."""
    try:
        kernel_version()
    except OSError:
        hide_memory()

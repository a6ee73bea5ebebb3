"""What the server tells a worker on its command line, as JSON."""

from __future__ import annotations

import msgspec

from mme.workers.sandbox import Plan


class ChildOptions(msgspec.Struct, frozen=True):
    """How a worker is to be."""

    predict_fd: int
    control_fd: int
    trust_code: bool
    heartbeat_seconds: float
    answer_limit_bytes: int
    preload: list[str]
    compile_trees: bool = False
    poll_seconds: float = 0.0  # for the next request, before it sleeps
    home: str | None = None  # its own, where nobody else looks; None: it has none
    plan: Plan | None = None  # how it is to lock itself up; None: not at all, or it has

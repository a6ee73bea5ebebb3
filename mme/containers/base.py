"""What a container is to the rest: something that answers an invocation."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from mme.domain import Handover, Invocation, Reply
from mme.metrics import ContainerMetrics


class Container(Protocol):
    """One container of an endpoint."""

    hostname: str  # how errors and headers name it; "primary" for the only one
    multi_model: bool  # whether it takes a target model
    metrics: ContainerMetrics | None  # its own, where it is one of several

    async def invoke(self, invocation: Invocation) -> Reply:
        """Answers, or raises an MmeError.

        Cancellation: the client has gone; work not begun is dropped.
        """
        ...

    def open(self, invocation: Invocation) -> AbstractAsyncContextManager[Handover]:
        """As `invoke`, for a container that another one follows.

        Raises (on entering): as `invoke`, and what breaks later while the body is read.
        Leaving: what has not been read of the body is not wanted any more.
        """
        ...

    def problem(self) -> str | None:
        """Why it can't answer now, for readiness; None when it can."""
        ...

    def describe(self) -> dict[str, object]:
        """Its state, for `/state`; `hostname`, `kind` and `problem` are there."""
        ...

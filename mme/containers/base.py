"""What a container is to the rest: something that answers an invocation."""

from __future__ import annotations

from typing import Protocol

from mme.domain import Invocation, Reply


class Container(Protocol):
    """One container of an endpoint."""

    hostname: str  # how errors and headers name it; "primary" for the only one
    multi_model: bool  # whether it takes a target model

    async def invoke(self, invocation: Invocation) -> Reply:
        """Answers, or raises an MmeError.

        Cancellation: the client has gone; work not begun is dropped.
        """
        ...

"""One call over gRPC on its way to its answer, and what is known of it so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from msgspec.structs import replace

from mme.domain import Invocation, ModelKey, Reply
from mme.front.access import Caller
from mme.front.wire import read_target_model
from mme.tracing import Traced


class Operation(NamedTuple):
    """What is called, as a route is over HTTP."""

    name: str  # in logs and as a metric's label
    invokes: bool = False  # it is work: logged at info, counted as such


@dataclass(kw_only=True, slots=True, eq=False)
class Call:
    """Who asks for what, and how long they wait; only its own task writes to it."""

    method: str
    request_id: str
    endpoint: str
    started: float  # by `time.perf_counter`
    remaining_seconds: float | None  # None: for ever
    body: bytes = b""  # as it came, once it was received
    caller: Caller | None = None  # None: nobody is asked who they are
    who: str = ""  # whose places and bytes it takes
    traced: Traced | None = None
    invocation: Invocation | None = None
    reply: Reply | None = None
    code: int = 0  # of its answer, by gRPC's numbers

    def may_use(self, name: str) -> ModelKey:
        """The model of that name. Raises InvalidRequest, AccessDenied."""
        key = read_target_model(name)
        if self.caller is not None:
            self.caller.check(self.endpoint, key)
        return key

    def sees(self, model: str) -> bool:
        """Whether the caller may know of a model."""
        return self.caller is None or self.caller.sees(model)

    def admit(self, invocation: Invocation) -> Invocation:
        """Notes what is asked for, and by whom."""
        if self.caller is not None:
            invocation = replace(invocation, api_key=self.caller.grant.name)
        self.invocation = invocation
        return invocation

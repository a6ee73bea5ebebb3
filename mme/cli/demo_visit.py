"""One invocation of the demo: what came back, and what it moved in and out of memory."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from typing import Any

from mme.cli.client import ask
from mme.cli.demo_tenants import Tenant, flatten
from mme.cli.models import read_state
from mme.errors import RequestError

TOLERANCE = 1e-5  # of 32-bit floats printed and read again


@dataclass(frozen=True, kw_only=True, slots=True)
class Visit:
    """What one invocation showed."""

    tenant: Tenant
    cold: bool
    seconds: float
    answer: tuple[float, ...]
    fault: str  # empty where there was an answer
    evicted: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether the answer is the framework's own."""
        own = self.tenant.predictions
        return len(own) == len(self.answer) and all(
            math.isclose(ours, theirs, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
            for ours, theirs in zip(self.answer, own, strict=True)
        )


def visit(client: Any, url: str, tenant: Tenant) -> Visit:  # noqa: ANN401 - a boto3 client
    """Invokes `tenant`'s model once, and reads off `/state` what that moved."""
    before = read_state(url)["events"]
    answer: tuple[float, ...] = ()
    fault = ""
    started = time.perf_counter()
    try:
        body = ask(
            client,
            url,
            EndpointName="mme",
            TargetModel=tenant.key,
            ContentType=tenant.content_type,
            Accept="application/json",
            Body=tenant.payload,
        )
        answer = tuple(flatten(json.loads(body)))
    except (RequestError, ValueError) as error:
        fault = str(error)
    seconds = time.perf_counter() - started
    events = [event for event in read_state(url)["events"] if event not in before]
    return Visit(
        tenant=tenant,
        cold=any(event["kind"] == "loaded" and event["model"] == tenant.key for event in events),
        seconds=seconds,
        answer=answer,
        fault=fault,
        evicted=tuple(event["model"] for event in events if event["kind"] == "evicted"),
    )

"""The multi-model engine, where tenants have limits: looked at before a request is begun."""

from __future__ import annotations

import time
from typing import Any

from mme.containers.engine import MultiModelEngine
from mme.domain import Invocation, Reply
from mme.errors import Throttled
from mme.workers.limits import Limits


class LimitedEngine(MultiModelEngine):
    """As its base; a kind of its own, so that a request costs no more where there are no limits.

    Args:
        limits: of tenants.
        hostname: what it is called.
        parts: as the base has them.
    """

    def __init__(self, limits: Limits, hostname: str, **parts: Any) -> None:  # noqa: ANN401 - the base's own
        super().__init__(hostname, **parts)
        self._limits = limits

    async def invoke(self, invocation: Invocation) -> Reply:
        """As the base; raises Throttled where its tenant has all it may have."""
        model, now = invocation.target_model, time.monotonic()
        tenant = self._limits.tenants.tenant_of(model or "", invocation.api_key)
        usage = self._limits.of(tenant, now)
        if usage is None or model is None:
            return await super().invoke(invocation)
        try:
            usage.enter(now)
        except Throttled as refused:
            self._cache.residents.accounts.failed(model, refused, 0)
            raise
        try:
            return await super().invoke(invocation)
        finally:
            usage.leave()

"""Pushes to CloudWatch, as boto3 finds it: its credentials, region and endpoint.

Decision: what can't be sent is counted on, and is in the next push: an outage costs resolution, not
sums. It is told once, and again when it is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import boto3
import structlog
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from mme.cloudwatch.datums import Datum, Look, datums, gauges, look_at
from mme.config import CloudWatchConfig
from mme.errors import ConfigError
from mme.metrics import Metrics

_log = structlog.get_logger()
_INSTANCE_NAMESPACE = "/aws/sagemaker/Endpoints"
_DATUMS_LIMIT = 500  # CloudWatch takes 1,000 at once, and 1 MB
_CONNECT_SECONDS, _READ_SECONDS, _ATTEMPTS = 3, 5, 2


class Push:
    """One endpoint's metrics on their way to CloudWatch.

    Args:
        config: how often, and under which namespace.
        region: where boto3 knows of none.
        metrics: what is sent.
        percents: what is in use of the machine, by SageMaker's name for it; blocks, for a thread.

    Raises:
        ConfigError: boto3 was told what makes no sense.
    """

    def __init__(
        self,
        config: CloudWatchConfig,
        region: str,
        metrics: Metrics,
        percents: Callable[[], Mapping[str, float]],
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._percents = percents
        self._client = _open_client(region)
        self._sent: Look = {}  # all counters start at 0
        self._failing = False

    async def run(self) -> None:
        """Pushes once a period. Cancellation: pushes what there is, unless it can't be reached."""
        try:
            while True:
                await asyncio.sleep(self._config.period_seconds)
                await self.push()
        finally:
            if not self._failing:
                await self.push()
            self._client.close()

    async def push(self) -> None:
        """Sends what was counted since the last time that it could be sent."""
        now = look_at(self._metrics.registry.collect())
        try:
            await asyncio.to_thread(self._send, self._sent, now)
        # ValueError: a proxy's answer that boto3 takes for text, or for JSON, and is neither
        except (BotoCoreError, Boto3Error, ClientError, OSError, ValueError) as error:
            if not self._failing:
                _log.error("cloudwatch_not_reached", reason=f"{type(error).__name__}: {error}")
            self._failing = True
        else:
            self._sent = now
            if self._failing:
                _log.info("cloudwatch_reached_again")
            self._failing = False

    def _send(self, before: Look, now: Look) -> None:
        self._put(_INSTANCE_NAMESPACE, gauges(now, self._percents()))
        self._put(self._config.namespace, datums(before, now))  # these, if any, must not be doubled

    def _put(self, namespace: str, told: list[Datum]) -> None:
        for start in range(0, len(told), _DATUMS_LIMIT):
            some = told[start : start + _DATUMS_LIMIT]
            self._client.put_metric_data(Namespace=namespace, MetricData=some)


def _open_client(region: str) -> Any:  # noqa: ANN401 - boto3 makes its classes as it runs
    settings = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
    )
    try:
        session = boto3.Session()
        where = session.region_name or region
        return session.client("cloudwatch", region_name=where, config=settings)
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"cloudwatch: {error}") from error

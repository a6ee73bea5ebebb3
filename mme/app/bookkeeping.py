"""What an engine tells of itself: the ledger of usage, gauges, pushes to CloudWatch."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from mme.app.tasks import own
from mme.app.utilization import Utilization
from mme.config import Config
from mme.errors import ConfigError
from mme.metrics import Metrics
from mme.usage.accounts import Accounts
from mme.usage.keeping import Keeper
from mme.usage.top import TopModels

if TYPE_CHECKING:
    from mme.app.builtin import BuiltIn

_log = structlog.get_logger()
_FILE = "ledger.sqlite3"


async def keep(
    accounts: Accounts, config: Config, stack: AsyncExitStack, *, is_ours: bool
) -> Keeper:
    """Has usage written down until the stack unwinds; what it closes earlier is charged still.

    Args:
        accounts: where it is counted.
        config: says where.
        stack: ends it.
        is_ours: whether models are; with those of a platform there is a ledger on demand only.

    Raises:
        ConfigError: the ledger that was asked for by name can't be had.
    """
    keeper = Keeper(accounts, TopModels(config.usage.top_models))
    place = _place(config, is_ours=is_ours)
    stack.push_async_callback(keeper.close)
    if place is not None:
        try:
            await keeper.open(place, config.usage.days)
        except ConfigError as error:
            if config.usage.ledger != "auto":
                raise
            _log.error("ledger_not_kept", reason=str(error))  # to serve on a full disk matters more
    own(stack, keeper.run())
    return keeper


async def push_metrics(config: Config, metrics: Metrics, stack: AsyncExitStack) -> None:
    """Has metrics pushed to CloudWatch until the stack unwinds, if that is asked for.

    Raises:
        ConfigError: it can't be.
    """
    if config.cloudwatch.push == "off":
        return
    from mme.cloudwatch.push import Push  # noqa: PLC0415 - boto3 behind it, which few need

    used = Utilization(Path(config.disk.cache_dir))
    region = config.server.region
    push = await asyncio.to_thread(Push, config.cloudwatch, region, metrics, used)
    own(stack, push.run())


def _place(config: Config, *, is_ours: bool) -> Path | None:
    given = config.usage.ledger
    if given == "auto":
        return Path(config.disk.cache_dir).expanduser() / _FILE if is_ours else None
    return None if given == "off" else Path(given).expanduser()


def gauge(built_in: BuiltIn, metrics: Metrics) -> None:
    """Sets what is worth no counting, as it can be looked up."""
    pool, cache = built_in.pool, built_in.cache
    workers = pool.describe()
    metrics.queued_requests.set(pool.waiting_count)
    metrics.running_requests.set(sum(int(str(each["running"])) for each in workers))
    metrics.tenant_paced.set(built_in.paced_tenant() is not None)
    metrics.workers.set(len(workers))
    for state in ("private", "resident", "lost", "excess"):
        held = sum(int(str(each[f"{state}_bytes"])) for each in workers)
        metrics.worker_bytes.labels(state).set(held)
    metrics.loading_models.set(len(cache.loading.keys()))


def gauge_usage(keeper: Keeper, metrics: Metrics) -> None:
    """Sets what the ledger tells of itself and of the models asked most."""
    metrics.ledger_unwritten.set(keeper.unwritten_count)
    metrics.ledger_lost.set_total(keeper.lost_models)
    metrics.top_models.shown = [
        (top, keeper.accounts.bytes_of(top.model)) for top in keeper.top.shown()
    ]

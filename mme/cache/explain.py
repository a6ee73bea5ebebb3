"""Why a model is in memory or is not: what all parts know of one key, as JSON."""

from __future__ import annotations

import time
from dataclasses import asdict

from mme.cache.entry import Entry
from mme.cache.failures import Failure
from mme.cache.loading import Loading
from mme.cache.records import Records
from mme.cache.residents import Residents
from mme.domain import ModelKey
from mme.store.base import Artifacts


def explain(
    key: ModelKey, *, residents: Residents, loading: Loading, records: Records, artifacts: Artifacts
) -> dict[str, object]:
    """What is known of `key`.

    `state` is `resident`, `loading`, `failed` (and not tried again yet), or the kind of the last
    event; `never` where there was none.
    """
    now = time.monotonic()
    copies, failure, last = residents.copies(key), loading.failures.of(key), records.last(key)
    on_disk = artifacts.on_disk(key)
    state = "never" if last is None else last.kind
    if copies:
        state = "resident"
    elif key in loading:
        state = "loading"
    elif failure is not None and now < failure.retry_at:
        state = "failed"
    return {
        "model": key,
        "state": state,
        "copies": [_copy(entry, residents, now) for entry in copies],
        "last_event": last and asdict(last),
        "failure": failure and _failure(failure, now),
        "on_disk_version": on_disk and on_disk.etag,
        "events": [asdict(record) for record in records.of(key)],
        "records_complete": records.is_complete,
        "budget_bytes": residents.ledger.budget_bytes,
    }


def _copy(entry: Entry, residents: Residents, now: float) -> dict[str, object]:
    order = residents.ledger.order()
    place = order.index(entry.copy_id) + 1 if entry.copy_id in order else None
    since = time.time() - (now - entry.loaded_at)
    told = {"since": round(since, 3), "place_to_go": place, "places": len(order)}
    return {**entry.describe(now), **told}


def _failure(failure: Failure, now: float) -> dict[str, object]:
    return {
        "reason": str(failure.error),
        "version": failure.etag,
        "times": failure.times,
        "retry_in_seconds": round(max(0.0, failure.retry_at - now), 3),
    }

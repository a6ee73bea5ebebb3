"""Failed loads, remembered with their cause.

A bad model costs one load per back-off, not one per request. Pure; the time is an argument. A
failure is of one content: a new version under the same key is tried at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from mme.domain import ModelKey
from mme.errors import MmeError

_RECHECK_SECONDS = 1.0  # how often, at most, the store is asked whether a bad model was mended
_REMEMBERED_LIMIT = 10_000


@dataclass(slots=True)
class Failure:
    """Why a key can't be loaded, until when not to try, and when to ask for a newer version."""

    error: MmeError
    etag: str | None  # of the content that failed; None where that was not known yet
    times: int
    retry_at: float
    recheck_at: float


class Failures:
    """What failed lately, by key.

    Args:
        first_seconds: back-off after the first failure; doubles with each in a row.
        limit_seconds: longest back-off.
    """

    def __init__(self, first_seconds: float, limit_seconds: float) -> None:
        self._first_seconds = first_seconds
        self._limit_seconds = limit_seconds
        self._failures: dict[ModelKey, Failure] = {}

    def remember(
        self, key: ModelKey, error: MmeError, etag: str | None, now: float, times: int = 1
    ) -> None:
        """Records a failure of the content that `etag` names, the so many-th at least."""
        before = self._failures.pop(key, None)
        if before is not None and before.etag == etag:
            times = max(times, before.times + 1)
        backoff_seconds = min(self._first_seconds * 2 ** min(times - 1, 30), self._limit_seconds)
        recheck_at = now + min(_RECHECK_SECONDS, backoff_seconds)
        self._failures[key] = Failure(error, etag, times, now + backoff_seconds, recheck_at)
        if len(self._failures) > _REMEMBERED_LIMIT:
            del self._failures[next(iter(self._failures))]  # the one that failed longest ago

    def forget(self, key: ModelKey) -> None:
        """`key` has loaded, or is gone."""
        self._failures.pop(key, None)

    def active(self, key: ModelKey, now: float) -> Failure | None:
        """The failure that still forbids loading `key`."""
        failure = self._failures.get(key)
        return failure if failure is not None and now < failure.retry_at else None

    def of(self, key: ModelKey) -> Failure | None:
        """The last failure of `key`, whether or not it still forbids loading."""
        return self._failures.get(key)

    def recheck(self, failure: Failure, now: float) -> bool:
        """Whether it is time to ask the store for a newer version; counts as asked."""
        if now < failure.recheck_at:
            return False
        failure.recheck_at = now + _RECHECK_SECONDS
        return True

    def describe(self, now: float) -> list[dict[str, object]]:
        """What is remembered, for `/state`; the latest hundred."""
        latest = list(self._failures.items())[-100:]
        return [
            {
                "model": key,
                "reason": str(failure.error),
                "times": failure.times,
                "retry_in_seconds": round(max(0.0, failure.retry_at - now), 3),
            }
            for key, failure in reversed(latest)
        ]

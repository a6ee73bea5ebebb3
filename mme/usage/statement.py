"""Pure: what is asked of the ledger, and what it says: a window of time, and who used most in it.

Decision: usage is kept by the hour, so a window is made of whole hours: those in which it begins
and ends count whole, and the answer says which they are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mme.errors import InvalidRequest
from mme.usage.account import Usage

_HOUR_SECONDS = 3600
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TOP_LIMIT = 1_000_000
_NOBODY_SHOWN = "(no model)"
_ERRORS = "client_errors + model_errors + server_errors"
SORTABLE: Mapping[str, str] = {"errors": _ERRORS, **{name: name for name in Usage._fields[1:]}}
"""What models may be sorted by -> how SQL says it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """What is asked for."""

    since: int  # seconds since 1970, a whole hour
    until: int  # not part of it
    top: int
    by: str = "compute_seconds"


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """What was used."""

    window: Window
    models: Sequence[Usage]  # who used most comes first
    total: Usage  # of all models, shown or not
    model_count: int

    def describe(self) -> dict[str, object]:
        """As JSON."""
        return {
            "since": _moment(self.window.since),
            "until": _moment(self.window.until),
            "by": self.window.by,
            "model_count": self.model_count,
            "total": {
                name: value for name, value in _members(self.total).items() if name != "model"
            },
            "models": [_members(usage) for usage in self.models],
        }

    def as_csv(self) -> str:
        """A line a model, after one that names the columns; a name is never taken for a formula."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(Usage._fields)
        writer.writerows((_cell(usage.model), *usage[1:]) for usage in self.models)
        return text.getvalue()


def read_window(query: Mapping[str, str], now: float) -> Window:
    """Reads `since`, `until`, `top` and `by`; by default the last day, 1,000 models.

    Args:
        query: as text; a time is `90m`, `12h`, `1d` or `2w` ago, seconds since 1970, or in the form
            of ISO 8601, in UTC where that says nothing else.
        now: seconds since 1970.

    Raises:
        InvalidRequest: none of these.
    """
    since = _read_time(query.get("since", "1d"), now, "since")
    until = _read_time(query["until"], now, "until") if "until" in query else now + 1
    top, by = query.get("top", "1000"), query.get("by", "compute_seconds")
    if not re.fullmatch(r"[0-9]{1,7}", top) or not 1 <= int(top) <= _TOP_LIMIT:
        raise InvalidRequest(f"top must be a whole number from 1 to {_TOP_LIMIT}.")
    if by not in SORTABLE:
        raise InvalidRequest(f"by must be one of {', '.join(SORTABLE)}.")
    if since > until:
        raise InvalidRequest("since must not be after until.")
    first = int(since) // _HOUR_SECONDS
    last = -(-int(until) // _HOUR_SECONDS)
    return Window(since=first * _HOUR_SECONDS, until=last * _HOUR_SECONDS, top=int(top), by=by)


def _read_time(text: str, now: float, name: str) -> float:
    if ago := re.fullmatch(r"([0-9]{1,9})([smhdw])", text):
        return max(0.0, now - int(ago[1]) * _UNITS[ago[2]])
    if re.fullmatch(r"[0-9]{1,11}(\.[0-9]{1,9})?", text):
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"{name} must be a time ago such as 12h or 1d, seconds since 1970, "
            "or a moment such as 2026-01-31T12:00Z."
        ) from None


def _members(usage: Usage) -> dict[str, object]:
    return {**usage._asdict(), "model": usage.model or None}


def _cell(model: str) -> str:
    """A spreadsheet runs what begins like a formula; tenants choose their names."""
    shown = model or _NOBODY_SHOWN
    return f"'{shown}" if shown[0] in "=+-@\t" else shown


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")

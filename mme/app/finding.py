"""Which of the models that this server knows fit a search, a page at a time, sorted as one likes.

Known are those in memory, those being loaded, those whose loads failed and those that something
happened to lately (records.py says how many); a store of millions is not listed for it.
Decision: offsets, not tokens: a list that is scrolled through by hand jumps, and may be a row off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mme.cache.entry import Entry
from mme.cache.records import Record
from mme.front.console_query import Search

_BY_NAME = "model"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of each model, copied in one step of the event loop."""

    entries: list[Entry]  # that answer
    lasts: dict[str, Record]
    loading: set[str]
    rate: Callable[[Entry], float]


def find(known: Known, search: Search) -> dict[str, object]:
    """The page, and how many there are. Takes tens of milliseconds, in any thread."""
    copies: dict[str, list[Entry]] = {}
    for entry in known.entries:
        copies.setdefault(entry.key, []).append(entry)
    names = set(copies)
    if not search.only_resident:
        names |= known.loading | known.lasts.keys()
    fitting = [name for name in names if _fits(name, search.terms)] if search.terms else [*names]
    fitting.sort()  # so that equals stay where they are
    if search.sort != _BY_NAME:
        fitting.sort(key=_measure(search.sort, copies, known.rate), reverse=True)
    page = fitting[search.offset : search.offset + search.limit]
    return {
        "total": len(fitting),
        "in_memory": len(copies),
        "offset": search.offset,
        "models": [_row(name, copies.get(name, []), known) for name in page],
    }


def _fits(name: str, terms: tuple[str, ...]) -> bool:
    folded = name.casefold()
    return all(term in folded for term in terms)


def _measure(
    sort: str, copies: Mapping[str, list[Entry]], rate: Callable[[Entry], float]
) -> Callable[[str], float]:
    measures: Mapping[str, Callable[[Entry], float]] = {
        "rate": rate,
        "bytes": lambda entry: entry.loaded.resident_bytes,
        "hits": lambda entry: entry.hits,
        "idle": lambda entry: entry.used_at,  # the most recently used first
    }
    measure = measures[sort]
    if sort == "idle":
        return lambda name: max(map(measure, copies.get(name, ())), default=-1.0)
    return lambda name: sum(map(measure, copies[name])) if name in copies else -1.0


def _row(name: str, copies: list[Entry], known: Known) -> dict[str, object]:
    if not copies:
        last = known.lasts.get(name)
        state = "loading" if name in known.loading else last.kind if last else "unknown"
        return {"model": name, "state": state, "at": last and last.at}
    now = time.monotonic()
    return {
        "model": name,
        "state": "resident",
        "copies": len(copies),
        "bytes": sum(entry.loaded.resident_bytes for entry in copies),
        "hits": sum(entry.hits for entry in copies),
        "rate": round(sum(map(known.rate, copies)), 3),
        "idle_seconds": round(min(now - entry.used_at for entry in copies), 1),
        "pinned": any(entry.pinned for entry in copies),
        "worker": copies[0].slot.index,
    }

"""Which of the models that this server knows fit a search, a page at a time, sorted as one likes.

Known are those in memory, those being loaded, those whose loads failed and those that something
happened to lately (records.py says how many); a store of millions is not listed for it. What
another container has is a line of its own, with the container's name.
Decision: offsets, not tokens: a list that is scrolled through by hand jumps, and may be a row off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mme.app.elsewhere import LOADED, Held
from mme.cache.entry import Entry
from mme.cache.records import Record
from mme.front.console_query import Search

_BY_NAME = "model"
_ABSENT = -1.0  # a measure below all there are


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What is known of each model, copied in one step of the event loop."""

    entries: list[Entry]  # that answer
    lasts: dict[str, Record]
    loading: set[str]
    rate: Callable[[Entry], float]
    elsewhere: Sequence[Held] = ()  # of other containers


class _Found(NamedTuple):
    """One line: a model of the built-in engine, or one of another container."""

    name: str
    copies: Sequence[Entry] = ()
    held: Held | None = None


def find(known: Known, search: Search) -> dict[str, object]:
    """The page, and how many there are. Takes tens of milliseconds, in any thread."""
    copies: dict[str, list[Entry]] = {}
    for entry in known.entries:
        copies.setdefault(entry.key, []).append(entry)
    loaded = [held for held in known.elsewhere if held.state == LOADED]
    names = set(copies)
    if not search.only_resident:
        names |= known.loading | known.lasts.keys()
    found = [_Found(name, copies.get(name, ())) for name in names]
    found += [
        _Found(held.model, held=held)
        for held in (loaded if search.only_resident else known.elsewhere)
    ]
    fitting = [one for one in found if _fits(one.name, search.terms)] if search.terms else found
    fitting.sort(key=lambda one: (one.name, one.held.container if one.held else ""))
    if search.sort != _BY_NAME:  # equals stay where they are
        fitting.sort(key=_measure(search.sort, known.rate), reverse=True)
    page = fitting[search.offset : search.offset + search.limit]
    return {
        "total": len(fitting),
        "in_memory": len(copies) + len(loaded),
        "offset": search.offset,
        "models": [_row(one, known) for one in page],
    }


def _fits(name: str, terms: tuple[str, ...]) -> bool:
    folded = name.casefold()
    return all(term in folded for term in terms)


def _measure(sort: str, rate: Callable[[Entry], float]) -> Callable[[_Found], float]:
    measures: Mapping[str, Callable[[Entry], float]] = {
        "rate": rate,
        "bytes": lambda entry: entry.loaded.resident_bytes,
        "hits": lambda entry: entry.hits,
        "idle": lambda entry: entry.used_at,  # the most recently used first
    }
    measure, gather = measures[sort], max if sort == "idle" else sum

    def of(one: _Found) -> float:
        if one.held is not None:
            return _measured(one.held, sort)
        return gather(map(measure, one.copies)) if one.copies else _ABSENT

    return of


def _measured(held: Held, sort: str) -> float:
    """Of what another container has, its memory and its last use are not known."""
    if held.entry is None or sort not in {"rate", "hits"}:
        return _ABSENT
    return held.rate if sort == "rate" else held.entry.hits


def _row(one: _Found, known: Known) -> dict[str, object]:
    if one.held is not None:
        return one.held.describe()
    name, copies = one.name, one.copies
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

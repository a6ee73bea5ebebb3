"""Pure: what a console's search for models asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mme.errors import InvalidRequest

SORTS = ("rate", "bytes", "hits", "idle", "model")
_LIMIT = 200
_SEARCH_LIMIT = 1024
_OFFSET_DIGITS = 9


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """What is looked for."""

    terms: tuple[str, ...] = ()  # parts of the name, all in it, without regard to case
    sort: str = "rate"  # one of SORTS
    only_resident: bool = False
    offset: int = 0
    limit: int = 100


def read_search(query: Mapping[str, str]) -> Search:
    """Reads `search`, `sort`, `resident`, `offset` and `limit`.

    Raises:
        InvalidRequest: one of them is not what it may be.
    """
    search, sort = query.get("search", ""), query.get("sort", "rate")
    if len(search) > _SEARCH_LIMIT:
        raise InvalidRequest(f"search must be at most {_SEARCH_LIMIT} characters long.")
    if sort not in SORTS:
        raise InvalidRequest(f"sort must be one of {', '.join(SORTS)}.")
    return Search(
        terms=tuple(search.casefold().split()),
        sort=sort,
        only_resident=query.get("resident") == "1",
        offset=_number(query.get("offset", "0"), "offset", 0, 10**_OFFSET_DIGITS - 1),
        limit=_number(query.get("limit", "100"), "limit", 1, _LIMIT),
    )


def _number(text: str, name: str, low: int, high: int) -> int:
    if text.isascii() and text.isdigit() and len(text) <= _OFFSET_DIGITS:
        number = int(text)
        if low <= number <= high:
            return number
    raise InvalidRequest(f"{name} must be a whole number from {low} to {high}.")

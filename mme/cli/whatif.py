"""`mme whatif`: what another memory budget or policy would have made of the latest requests.

Decision: the server hands out what it noted and the replay runs here, by the server's own ledger:
any number of tries cost the server one answer. Its cache of now is replayed beside the others,
from empty like they are, so that like is compared with like.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mme.cache.policy import POLICIES
from mme.cache.replay import Replayed, Trace, replay
from mme.cli.fetch import ENDPOINT_URL, EndpointUrl, fetch
from mme.cli.words import in_bytes, in_seconds
from mme.config_values import parse_bytes
from mme.errors import ConfigError

_MILLISECONDS = 1000
_WRAP = 2**32


def whatif(
    memory: Annotated[
        list[str] | None, typer.Option(help="Another budget, e.g. 8GiB; again for more of them.")
    ] = None,
    eviction: Annotated[
        str | None, typer.Option(help=f"Another policy: {', '.join(POLICIES)}.")
    ] = None,
    endpoint_url: EndpointUrl = ENDPOINT_URL,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Replay a server's latest requests against another memory budget or eviction policy."""
    if eviction not in {None, *POLICIES}:
        raise ConfigError(f"eviction: must be one of {', '.join(POLICIES)}, got {eviction!r}")
    budgets = [_budget_bytes(text) for text in memory or ()]
    told = fetch(endpoint_url, "/state/accesses")
    trace = Trace(
        numbers=told["numbers"], sizes_bytes=told["bytes"], load_seconds=told["load_seconds"]
    )
    now = replay(trace, told["budget_bytes"], told["eviction"])
    tries = _tries(now, budgets, eviction)
    others = [replay(trace, *tried) for tried in tries]
    if as_json:
        typer.echo(json.dumps(_members(told, now, others), indent=2))
    else:
        Console().print(_table(now, others), _recorded(told), sep="\n")


def _tries(now: Replayed, budgets: list[int], eviction: str | None) -> list[tuple[int, str]]:
    """What is asked for; where nothing is, half the memory and twice of it, by each policy."""
    if budgets or eviction:
        return [(size, eviction or now.eviction) for size in budgets or [now.budget_bytes]]
    size = now.budget_bytes
    tries = [(tried, name) for tried in (max(1, size // 2), size, 2 * size) for name in POLICIES]
    return [tried for tried in tries if tried != (now.budget_bytes, now.eviction)]


def _budget_bytes(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise ConfigError(f"memory: {error}, got {text!r}") from error


def _members(told: dict[str, Any], now: Replayed, others: Iterable[Replayed]) -> dict[str, Any]:
    recorded = {name: told["outcomes"].count(name[0]) for name in ("hits", "misses", "refused")}
    tried = [
        {**other.describe(), "saved_seconds": now.load_seconds - other.load_seconds}
        for other in others
    ]
    return {
        "recorded": {**recorded, "seconds": _span_seconds(told)},
        "now": now.describe(),
        "tried": tried,
    }


def _table(now: Replayed, others: Iterable[Replayed]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("", "memory", "by", "hits", "misses", "loads", "evictions", "loading", "saved"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    table.add_row("now", *_cells(now), "")
    for other in others:
        saved = now.load_seconds - other.load_seconds
        sign = "-" if saved < 0 else ""
        table.add_row("what if", *_cells(other), sign + in_seconds(abs(saved)))
    return table


def _cells(found: Replayed) -> Iterable[str]:
    share = f" ({found.hits / found.requests:.1%})" if found.requests else ""
    counts = (found.misses, found.loads, found.evictions)
    head = (in_bytes(found.budget_bytes), found.eviction, f"{found.hits}{share}")
    return (*head, *map(str, counts), in_seconds(found.load_seconds))


def _recorded(told: dict[str, Any]) -> str:
    """What there was to replay; a hit on what came before that is a miss in each of them."""
    outcomes = told["outcomes"]
    counts = f"{len(outcomes)} requests of {len(set(told['numbers']))} models"
    met = f"{outcomes.count('h')} met their model in memory"
    return (
        f"[dim]Recorded: {counts} in {in_seconds(_span_seconds(told))}; {met}. "
        "Each line starts with an empty cache.[/dim]"
    )


def _span_seconds(told: dict[str, Any]) -> float:
    moments = told["milliseconds"]
    return ((moments[-1] - moments[0]) % _WRAP) / _MILLISECONDS if moments else 0.0

"""`mme ledger`: which models used most of a running server, and how much."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mme.cli.fetch import ENDPOINT_URL, EndpointUrl, fetch, fetch_text
from mme.cli.words import in_bytes, in_seconds
from mme.usage.statement import SORTABLE

_ANSWER_SECONDS = 60  # to add up weeks of many models
_HEADINGS = ("requests", "errors", "compute", "in", "out", "memory", "loads", "loading")
_ERRORS = ("client_errors", "model_errors", "server_errors")


def ledger(
    since: Annotated[str, typer.Option(help="A time ago such as 12h or 1d, or a moment.")] = "1d",
    until: Annotated[str | None, typer.Option(help="As --since. Default: now.")] = None,
    top: Annotated[int, typer.Option(help="Models to show, those that used most first.")] = 20,
    by: Annotated[
        str, typer.Option(help=f"What to sort by: {', '.join(SORTABLE)}.")
    ] = "compute_seconds",
    endpoint_url: EndpointUrl = ENDPOINT_URL,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print it as CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show what models used of a running server: whom to bill, or which one is costly."""
    query = {"since": since, "top": str(top), "by": by, **({"until": until} if until else {})}
    path = f"/ledger?{urlencode(query)}"
    if as_csv:
        typer.echo(fetch_text(endpoint_url, f"{path}&format=csv", _ANSWER_SECONDS), nl=False)
        return
    told = fetch(endpoint_url, path, _ANSWER_SECONDS)
    if as_json:
        typer.echo(json.dumps(told, indent=2))
    else:
        Console().print(show_ledger(told), _line(told), sep="\n")


def show_ledger(told: Mapping[str, Any]) -> Table:
    """What `GET /ledger` says, as a table."""
    table = Table("model", box=None, header_style="bold", pad_edge=False)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for usage in told["models"]:
        name = usage["model"] or "(no model)"
        table.add_row(Text(name, overflow="fold"), *_cells(usage))  # rich shall see no markup in it
    table.add_row("[bold]all[/bold]", *_cells(told["total"]))
    return table


def _cells(usage: Mapping[str, Any]) -> Iterable[str]:
    return (
        str(usage["requests"]),
        str(sum(usage[kind] for kind in _ERRORS)),
        in_seconds(usage["compute_seconds"]),
        in_bytes(usage["bytes_in"]),
        in_bytes(usage["bytes_out"]),
        f"{in_bytes(usage['memory_byte_seconds'] / 3600)}h",
        str(usage["loads"]),
        in_seconds(usage["load_seconds"]),
    )


def _line(told: Mapping[str, Any]) -> str:
    shown, count = len(told["models"]), told["model_count"]
    which = f"{shown} of {count} models" if shown < count else f"{count} models"
    return f"[dim]{which}, from {told['since']} to {told['until']}, by {told['by']}.[/dim]"

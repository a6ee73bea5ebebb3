"""How the demo tells what it sees: a line a visit as it happens, a table at the end."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mme.cli.demo_visit import Visit
from mme.cli.words import in_bytes

NUMBERS_SHOWN = 2
LINE = "{:<10} {:<8} {:<4} {:>10}   {:<16} {:<16} {}"


def print_heading(console: Console) -> None:
    """The heading of the lines that follow."""
    heading = LINE.format("tenant", "model", "", "took", "mme answers", "framework says", "")
    console.print(f"\n[bold]{heading}[/bold]")


def print_visit(console: Console, visit: Visit) -> None:
    """One line for one invocation."""
    line = LINE.format(
        visit.tenant.name,
        visit.tenant.framework,
        "cold" if visit.cold else "hot",
        f"{visit.seconds * 1000:.1f} ms",
        _numbers(visit.answer),
        _numbers(visit.tenant.predictions),
        "equal" if visit.equal else "DIFFERS",
    )
    color = "red" if not visit.equal else "blue" if visit.cold else "default"
    console.print(f"[{color}]{escape(line.rstrip())}[/{color}]")
    if visit.evicted:
        names = ", ".join(name.removesuffix(".tar.gz") for name in visit.evicted)
        console.print(f"[dim]{'':<20}evicted {escape(names)} for it[/dim]")
    if visit.fault:
        console.print(f"  [red]{escape(visit.fault)}[/red]")


def print_summary(console: Console, visits: list[Visit], state: dict[str, Any]) -> None:
    """What it all came to."""
    cold = [visit for visit in visits if visit.cold]
    hot = [visit for visit in visits if not visit.cold]
    table = Table(show_header=False, title="\nSummary", title_justify="left", title_style="bold")
    table.add_column(style="dim")
    rows = {
        "tenants": len({visit.tenant.name for visit in visits}),
        "invocations": len(visits),
        "cold": f"{len(cold)}, median {_milliseconds(cold)}",
        "hot": f"{len(hot)}, median {_milliseconds(hot)}",
        "evicted": sum(len(visit.evicted) for visit in visits),
        "in memory now": _memory(state),
        "equal answers": f"{sum(visit.equal for visit in visits)} of {len(visits)}",
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    console.print(table)


def _memory(state: dict[str, Any]) -> str:
    memory = state["memory"]
    held, budget = in_bytes(memory["resident_bytes"]), in_bytes(memory["configured_bytes"])
    return f"{len(state['models'])} models, {held} of {budget}"


def _milliseconds(visits: list[Visit]) -> str:
    return f"{median(visit.seconds for visit in visits) * 1000:.1f} ms" if visits else "-"


def _numbers(numbers: Iterable[float]) -> str:
    return "".join(f"{number:>7.4f} " for number in list(numbers)[:NUMBERS_SHOWN]).rstrip()

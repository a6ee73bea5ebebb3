"""`mme top`: what the console shows, in a terminal: memory, rates, workers, the hottest, events."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mme.cli.fetch import ENDPOINT_URL, EndpointUrl, follow
from mme.cli.words import in_bytes, in_seconds

_Glance = Mapping[str, Any]
_BAR = 60
_HOTTEST = 12
_EVENTS = 8
_HISTORY = 60
_SPARKS = "▁▂▃▄▅▆▇█"
_PARTS = {"resident": ("█", "cyan"), "reserved": ("▓", "green"), "leaving": ("▒", "yellow")}


def top(
    endpoint_url: EndpointUrl = ENDPOINT_URL,
    once: Annotated[bool, typer.Option("--once", help="Show one second of it, and end.")] = False,
) -> None:
    """Watch a running server: memory, rates, workers, its hottest models, what happens."""
    console, requests = Console(), deque[float](maxlen=_HISTORY)
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        for name, told in follow(endpoint_url, "/console/live"):
            if name == "hello":
                requests.extend(x["rates"]["requests"] for x in told["history"] if x["rates"])
            elif told["rates"] is not None:  # else there was nothing to compare it with
                requests.append(told["rates"]["requests"])
                live.update(show(told, requests), refresh=True)
                if once:
                    return


def show(glance: _Glance, requests: Sequence[float]) -> Group:
    """One glance as tables; `requests` a second are those of this glance and the ones before."""
    shown: list[RenderableType] = [_headline(glance), _rates(glance["rates"], requests)]
    if "memory" in glance:
        shown += ["", *_memory(glance["memory"]), "", _workers(glance["workers"])]
    shown += [_container(each) for each in glance["containers"] if _is_told(each)]
    if glance.get("blocks"):
        shown += ["", _hottest(glance["blocks"])]
    if glance.get("events"):
        shown += ["", _events(glance["events"])]
    return Group(*shown)


def _headline(glance: _Glance) -> Text:
    reasons = "; ".join(glance["reasons"])
    state = Text(f"not ready: {reasons}", "red") if reasons else Text("ready", "green")
    return Text.assemble(
        (f"mme {glance['version']}", "bold"),
        f"  {glance['location']}  up {in_seconds(glance['uptime_seconds'])}  ",
        state,
    )


def _rates(rates: _Glance, requests: Sequence[float]) -> Text:
    hits = rates["hit_ratio"]
    told = {
        "requests": f"{rates['requests']:.0f}/s",
        "errors": f"{rates['errors']:.1f}/s",
        "p50": in_seconds(rates["p50_seconds"]),
        "p99": in_seconds(rates["p99_seconds"]),
        "hits": "-" if hits is None else f"{hits:.0%}",
        "loads": f"{rates['loads']:.1f}/s",
        "evictions": f"{rates['evictions']:.1f}/s",
    }
    line = Text("  ").join(Text.assemble((f"{name} ", "dim"), text) for name, text in told.items())
    return Text.assemble(line, "\n", (_sparks(requests), "cyan"))


def _sparks(numbers: Sequence[float]) -> str:
    most = max(numbers, default=0.0) or 1.0
    return "".join(_SPARKS[round(number / most * (len(_SPARKS) - 1))] for number in numbers)


def _memory(memory: _Glance) -> list[RenderableType]:
    budget = memory["budget_bytes"]
    bar, line = Text("["), [f"{memory['models']} models"]
    for name, (sign, colour) in _PARTS.items():
        size = memory[f"{name}_bytes"]
        bar.append(sign * round(size / budget * _BAR), colour)
        line.append(f"{name} {in_bytes(size)}")
    bar = bar[: _BAR + 1]
    bar.append(" " * (_BAR + 1 - len(bar)) + "]")
    line.append(f"of {in_bytes(budget)}")
    return [bar, Text(", ".join(line), "dim")]


def _workers(workers: Sequence[_Glance]) -> Table:
    table = _table("worker", "state", "models", "memory", "queued", "running", "restarts")
    for one in workers:
        numbers = [one["models"], in_bytes(one["private_bytes"]), one["queued"], one["running"]]
        table.add_row(str(one["worker"]), one["state"], *map(str, [*numbers, one["restarts"]]))
    return table


def _is_told(container: _Glance) -> bool:
    return bool(container["problem"]) or "models" in container


def _container(told: _Glance) -> Text:
    line = Text(f"container {told['hostname']}: ")
    line.append(told["problem"] or "ready", "red" if told["problem"] else "green")
    if "models" in told:
        line.append(f", {told['models']} models in it")
    return line


def _hottest(blocks: Sequence[_Glance]) -> Table:
    table = _table("hottest model", "", "requests", "memory", "hits")
    for one in sorted(blocks, key=lambda block: -block["rate"])[:_HOTTEST]:
        pin = "pinned" if one["pinned"] else ""
        numbers = f"{one['rate']:.1f}/s", in_bytes(one["bytes"]), str(one["hits"])
        table.add_row(_name(one["model"]), pin, *numbers)
    return table


def _events(events: Sequence[_Glance]) -> Table:
    table = Table("time", "what", "model", "why", box=None, header_style="dim", pad_edge=False)
    for one in events[:_EVENTS]:
        at = datetime.fromtimestamp(one["at"], UTC).astimezone().strftime("%H:%M:%S")
        whom = f", for {one['for_whom']}" if one["for_whom"] else ""
        table.add_row(at, one["kind"], _name(one["model"]), _name(one["reason"] + whom))
    return table


def _table(first: str, second: str, *numbers: str) -> Table:
    table = Table(first, second, box=None, header_style="dim", pad_edge=False)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _name(text: str) -> Text:
    """As it is: rich shall see no markup in it."""
    return Text(text, overflow="ellipsis", no_wrap=True)

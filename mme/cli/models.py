"""`mme models`: what is resident on a running server, once or for as long as one looks."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mme.cli.fetch import ENDPOINT_URL, EndpointUrl, fetch
from mme.cli.words import in_bytes, in_seconds


def models(
    endpoint_url: EndpointUrl = ENDPOINT_URL,
    watch: Annotated[bool, typer.Option("--watch", help="Look every second until Ctrl-C.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the server's state as it is.")
    ] = False,
) -> None:
    """Show the models that a running server holds."""
    if as_json:
        typer.echo(json.dumps(read_state(endpoint_url), indent=2))
        return
    console = Console()
    if not watch:
        console.print(show_state(read_state(endpoint_url)))
        return
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(show_state(read_state(endpoint_url)), refresh=True)
            time.sleep(1)


def read_state(endpoint_url: str) -> dict[str, Any]:
    """The server's `/state`. Raises MmeError if it does not answer with that."""
    return fetch(endpoint_url, "/state")


def show_state(state: dict[str, Any]) -> Group:
    """The state as tables: containers, where there are several; models, and a line on memory."""
    shown: list[RenderableType] = []
    if "containers" in state:
        shown += [_containers(state), ""]
    if "memory" in state:
        shown += _models(state)
    return Group(*shown)


def _containers(state: dict[str, Any]) -> Table:
    table = Table(f"container ({state['mode']})", box=None, header_style="bold", pad_edge=False)
    for heading in ("kind", "state"):
        table.add_column(heading)
    for container in state["containers"]:
        problem = container.get("problem")
        table.add_row(container["hostname"], str(container["kind"]), problem or "ready")
    return table


def _models(state: dict[str, Any]) -> list[RenderableType]:
    table = Table("model", box=None, header_style="bold", pad_edge=False)
    for heading in ("state", "kind"):
        table.add_column(heading, no_wrap=True)
    for heading in ("memory", "load", "age", "idle", "hits", "worker"):
        table.add_column(heading, justify="right", no_wrap=True)
    for model in state["models"]:
        table.add_row(
            Text(str(model["model"]), overflow="fold"),  # as it is: rich shall see no markup in it
            str(model["state"]),
            str(model["framework"]),
            in_bytes(model["bytes"]),
            in_seconds(model["load_seconds"]),
            in_seconds(model["age_seconds"]),
            in_seconds(model["idle_seconds"]),
            str(model["hits"]),
            str(model["worker"]),
        )
    memory = {name: value for name, value in state["memory"].items() if name.endswith("bytes")}
    line = ", ".join(
        f"{name.removesuffix('_bytes')} {in_bytes(value)}" for name, value in memory.items()
    )
    return [table, f"[dim]{len(state['models'])} models; memory: {line}[/dim]"]

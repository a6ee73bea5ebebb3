"""`mme explain`: why a model is in memory, or is not, in plain sentences."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import typer

from mme.cli.fetch import ENDPOINT_URL, EndpointUrl, fetch
from mme.cli.words import in_bytes, in_seconds

_Told = Mapping[str, Any]
_EVENTS_SHOWN = 10


def explain(
    name: Annotated[str, typer.Argument(help="The model's key, e.g. acme/model.tar.gz.")],
    endpoint_url: EndpointUrl = ENDPOINT_URL,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what the server says, as it is.")
    ] = False,
) -> None:
    """Say why a model is in a server's memory, or is not."""
    told = fetch(endpoint_url, f"/state/models/{quote(name)}")
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    typer.echo("\n".join(sentences(told)))


def sentences(told: _Told) -> Iterator[str]:
    """What `GET /state/models/{name}` says, in words."""
    if told["copies"]:
        for copy in told["copies"]:
            yield from _resident(told, copy)
    elif told["state"] == "loading":
        yield f"{told['model']} is being loaded now."
    else:
        yield f"{told['model']} is not in memory: {_why_not(told)}."
        if told["failure"] is not None:
            yield _failure(told)
    yield _disk(told)
    if told["events"]:
        yield "What happened lately:"
        yield from (f"  {_event(event)}" for event in told["events"][-_EVENTS_SHOWN:])


def _resident(told: _Told, copy: _Told) -> Iterator[str]:
    since = f"since {_moment(copy['since'])} ({in_seconds(copy['age_seconds'])} ago)"
    yield f"{told['model']} is in memory, in worker {copy['worker']}, {since}."
    kind = f"{copy['framework']}, version {copy['version']}"
    yield (
        f"It is {kind}, takes {in_bytes(copy['bytes'])} and took "
        f"{in_seconds(copy['load_seconds'])} to load; {copy['hits']} hits since, the last use "
        f"{in_seconds(copy['idle_seconds'])} ago."
    )
    if copy["place_to_go"] is not None:
        place = f"number {copy['place_to_go']} of {copy['places']}"
        yield f"When room is needed, it is {place} to go, by {told['eviction']}."
    elif copy["pinned"]:
        yield "It is pinned, and not evicted."
    else:
        yield "It is in use now, and is not evicted before that ends."


def _evicted(event: _Told) -> str:
    reason = f"it was evicted at {_moment(event['at'])}"
    if event["for_whom"] is None:
        return f"{reason} since this machine was short of memory; it was {event['reason']}"
    return f"{reason} to make room for {event['for_whom']}; it was {event['reason']}"


_WHY_NOT: Mapping[str, Callable[[_Told], str]] = {
    "evicted": _evicted,
    "failed": lambda event: f"it failed to load at {_moment(event['at'])}",
    "refused": lambda event: f"there was no room for it at {_moment(event['at'])}",
    "absent": lambda event: f"the store had no such object at {_moment(event['at'])}",
    "unavailable": lambda event: f"it could not be fetched at {_moment(event['at'])}",
    "unloaded": lambda event: f"it was unloaded at {_moment(event['at'])}, as it was asked to be",
    "deleted": lambda event: f"its object was found to be deleted at {_moment(event['at'])}",
    "lost": lambda event: f"its worker ended at {_moment(event['at'])}",
}


def _why_not(told: _Told) -> str:
    event = told["last_event"]
    if event is None:
        asked = "it was not asked for since the server started"
        return (
            asked if told["records_complete"] else f"{asked}, or so long ago that it is forgotten"
        )
    if event["kind"] in _WHY_NOT:
        why = _WHY_NOT[event["kind"]](event)
        return (
            why if event["kind"] in {"evicted", "unloaded"} else f"{why}: {_bare(event['reason'])}"
        )
    return f"{event['kind']} at {_moment(event['at'])}: {_bare(event['reason'])}"


def _bare(reason: str) -> str:
    return reason.rstrip().removesuffix(".")


def _failure(told: _Told) -> str:
    failure, event = told["failure"], told["last_event"]
    told_already = event is not None and event["kind"] == "failed"
    cause = "" if told_already else f": {_bare(failure['reason'])}"
    row = f"Failures in a row: {failure['times']}{cause}."
    if failure["retry_in_seconds"]:
        wait = in_seconds(failure["retry_in_seconds"])
        return f"{row} It is not tried again for {wait}, unless there is a new version."
    return f"{row} It is tried again when it is asked for."


def _disk(told: _Told) -> str:
    version = told["on_disk_version"]
    if version is None:
        return "It is not on disk: a load has to fetch it."
    return f"Version {version} is on disk: a load of it fetches nothing."


def _event(event: _Told) -> str:
    line = f"{_moment(event['at'])}  {event['kind']}: {event['reason']}"
    if event["for_whom"] is not None:
        line += f", for {event['for_whom']}"
    if event["bytes"]:
        before, after = in_bytes(event["before_bytes"]), in_bytes(event["after_bytes"])
        line += f" ({before} -> {after} in memory)"
    return line


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

"""Recorded traffic: the Azure Functions invocations of 2019, or what a server of ours has noted.

Azure's files (https://github.com/Azure/AzurePublicDataset, AzureFunctionsDataset2019.md) hold a
line a function: HashOwner, HashApp, HashFunction, Trigger, and its invocations in each of the 1440
minutes of a day. They tell neither sizes nor moments within a minute: both are drawn. More than so
many invocations of one function in one minute are left out, for they are hits in any cache.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path

from load_tests.measure import GeneratorFailed
from load_tests.trace import weigh
from mme.cache.replay import Trace

_FACTS = ["HashOwner", "HashApp", "HashFunction", "Trigger"]
_MINUTES = 1440
_PER_MINUTE_LIMIT = 30
_MINUTE_SECONDS = 60.0


def read_trace(path: Path, models: int, seed: int) -> Trace:
    """Reads a trace: JSON as `GET /state/accesses` gives it, anything else as Azure's CSV.

    Args:
        path: the file.
        models: of Azure's functions as many are taken, at random.
        seed: of what is drawn.

    Raises:
        GeneratorFailed: it can't be read, or is neither.
    """
    try:
        if path.suffix == ".json":
            return _read_accesses(json.loads(path.read_text()))
        with path.open(newline="") as file:
            return _read_azure(csv.reader(file), models, random.Random(seed))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise GeneratorFailed(f"{path} is no trace: {error}") from error


def _read_accesses(told: dict[str, list[float]]) -> Trace:
    numbers = [int(number) for number in told["numbers"]]
    if numbers and not 0 <= min(numbers) <= max(numbers) < len(told["bytes"]):
        raise ValueError("it names a model that it does not describe")
    sizes_bytes = [int(size) for size in told["bytes"]]
    return Trace(numbers=numbers, sizes_bytes=sizes_bytes, load_seconds=told["load_seconds"])


def _read_azure(rows: Iterator[list[str]], models: int, chance: random.Random) -> Trace:
    if next(rows, [])[: len(_FACTS)] != _FACTS:
        raise ValueError(f"the first line must begin with {', '.join(_FACTS)}, 1, ...")
    taken: list[list[str]] = []  # every function has the same chance, and few are held at once
    for seen, row in enumerate(rows):
        place = seen if seen < models else chance.randrange(seen + 1)
        if place < models:
            taken[place : place + 1] = [row]
    arrivals = [
        (at, number) for number, row in enumerate(taken) for at in _draw_arrivals(row, chance)
    ]
    arrivals.sort()
    return weigh([number for _at, number in arrivals], len(taken), chance)


def _draw_arrivals(row: list[str], chance: random.Random) -> Iterator[float]:
    counts = row[len(_FACTS) :]
    if len(counts) != _MINUTES:
        raise ValueError(f"a line has {len(counts)} minutes, not {_MINUTES}")
    for minute, count in enumerate(counts):
        for _ in range(min(int(count), _PER_MINUTE_LIMIT)):
            yield (minute + chance.random()) * _MINUTE_SECONDS

"""Made-up traffic of many tenants: who is asked for when, what each model weighs, from one seed.

After what is known of such traffic (Shahrad et al., "Serverless in the Wild", USENIX ATC 2020):
popularity over many orders of magnitude, log-normal here; most arrivals at random, a good part by
timers, some in bursts. Sizes are log-normal too, and the seconds of a load follow the size only
loosely, as frameworks differ.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from mme.cache.replay import Trace

_HOUR_SECONDS = 3600.0
_PERIODS_SECONDS = (60.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 21_600.0, 86_400.0)
_KINDS = {"poisson": 0.6, "timer": 0.25, "burst": 0.15}  # shares of the models
_BURST_REQUESTS = 20  # in a burst, on average
_BURST_PER_SECOND = 2.0
_MEDIAN_BYTES, _BYTES_SIGMA = 2e6, 1.5
_LEAST_BYTES, _MOST_BYTES = 50_000, 2_000_000_000
_LOAD_SECONDS, _LOAD_BYTES_PER_SECOND, _LOAD_SIGMA = 0.005, 200e6, 1.0


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What is wanted."""

    models: int
    hours: float
    requests: int  # about as many
    sigma: float  # of the popularity's logarithm; 0: all alike
    seed: int


def make_trace(wanted: Traffic) -> Trace:
    """The same trace for the same wishes."""
    chance = random.Random(wanted.seed)
    seconds = wanted.hours * _HOUR_SECONDS
    weights = [chance.lognormvariate(0, wanted.sigma) for _ in range(wanted.models)]
    per_weight = wanted.requests / seconds / sum(weights)
    arrivals = [
        (at, number)
        for number, weight in enumerate(weights)
        for at in _arrivals(chance, weight * per_weight, seconds)
    ]
    arrivals.sort()
    return weigh([number for _at, number in arrivals], wanted.models, chance)


def weigh(numbers: list[int], models: int, chance: random.Random) -> Trace:
    """Gives each of the models that `numbers` name a size and the seconds of a load."""
    sizes = [_draw_bytes(chance) for _ in range(models)]
    seconds = [
        (_LOAD_SECONDS + size / _LOAD_BYTES_PER_SECOND) * chance.lognormvariate(0, _LOAD_SIGMA)
        for size in sizes
    ]
    return Trace(numbers=numbers, sizes_bytes=sizes, load_seconds=seconds)


def _draw_bytes(chance: random.Random) -> int:
    drawn = chance.lognormvariate(math.log(_MEDIAN_BYTES), _BYTES_SIGMA)
    return int(min(max(drawn, _LEAST_BYTES), _MOST_BYTES))


def _arrivals(chance: random.Random, per_second: float, seconds: float) -> Iterator[float]:
    (kind,) = chance.choices(list(_KINDS), list(_KINDS.values()))
    if kind == "poisson":
        return _poisson(chance, per_second, seconds)
    if kind == "timer":
        return _timer(chance, per_second, seconds)
    return _bursts(chance, per_second, seconds)


def _poisson(chance: random.Random, per_second: float, seconds: float) -> Iterator[float]:
    at = chance.expovariate(per_second)
    while at < seconds:
        yield at
        at += chance.expovariate(per_second)


def _timer(chance: random.Random, per_second: float, seconds: float) -> Iterator[float]:
    """The usual period that is nearest to the rate; several timers where one is too slow."""
    period = min(_PERIODS_SECONDS, key=lambda usual: abs(math.log(usual * per_second)))
    for _ in range(max(1, round(per_second * period))):
        at = chance.uniform(0, period)
        while at < seconds:
            yield at
            at += period


def _bursts(chance: random.Random, per_second: float, seconds: float) -> Iterator[float]:
    for start in _poisson(chance, per_second / _BURST_REQUESTS, seconds):
        at = start
        while at < seconds:
            yield at
            if chance.random() < 1 / _BURST_REQUESTS:
                break
            at += chance.expovariate(_BURST_PER_SECOND)

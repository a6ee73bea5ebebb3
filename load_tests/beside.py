"""What some feel while others do much: their p99 alone, alone again, and beside the others.

Decisions: alone is measured before and after each time beside (A B A, interleaved over the rounds),
so that what changes in the machine hits both, and so that A against A says how much is noise. What
is compared is the median over the rounds. The others' own refusals and lateness are no failures:
they ask for more than their due. Where it is asked for, some are also measured beside a process
that only computes, as much as the others cost: so much is the machine's, whoever serves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from statistics import median

from load_tests.findings import Finding, Findings
from load_tests.measure import measure
from load_tests.plain_work import working
from load_tests.plan import Outcome, Plan

_THEIRS = ("status 429", "status 503", "unanswered")


@dataclass(frozen=True, kw_only=True)
class Round:
    """Three measurements of some, or four, and one of the others."""

    before: Outcome
    beside: Outcome
    after: Outcome
    others: Outcome
    plain: Outcome | None = None

    @property
    def cores(self) -> float:
        """What the others cost, with whoever asked for it."""
        quiet = (_cores(self.before) + _cores(self.after)) / 2
        return min(1.0, max(0.0, _cores(self.beside) - quiet))

    @property
    def noise_ratio(self) -> float:
        """The worse of both times alone, by the better one."""
        both = _p99(self.before), _p99(self.after)
        return max(both) / min(both)


def measure_round(some: Plan, others: Callable[[], Outcome]) -> Round:
    """Some alone, beside the others (a call), and alone. Raises GeneratorFailed."""
    before = measure(some)
    with ThreadPoolExecutor(1) as thread:
        meanwhile = thread.submit(others)
        beside = measure(some)
        outcome = meanwhile.result()
    return Round(before=before, beside=beside, after=measure(some), others=outcome)


def with_plain_work(one: Round, some: Plan, bursts_per_second: float) -> Round:
    """The round, and some beside a process that computes as much as the others cost."""
    limit_seconds = some.warm_up_seconds + some.seconds + some.drain_seconds
    with working(one.cores, bursts_per_second, limit_seconds):
        return replace(one, plain=measure(some))


def tell(
    subject: str,
    rounds: Sequence[Round],
    report: Findings,
    target: Callable[[float], float],
) -> None:
    """Enters the figures.

    Args:
        subject: who felt it.
        rounds: as measured.
        report: where they go.
        target: of p99 beside by p99 alone, by that ratio of alone to alone.
    """
    alone = median(_p99(each) for one in rounds for each in (one.before, one.after))
    beside, noise_ratio = median(_p99(one.beside) for one in rounds), _noise(rounds)
    for name, value, limit in (
        ("alone, p99 ms", 1000 * alone, None),
        ("beside the others, p99 ms", 1000 * beside, None),
        ("alone against alone, p99, times", noise_ratio, None),
        ("p99 beside by p99 alone, times", beside / alone, target(noise_ratio)),
        ("alone, p50 ms", 1000 * _middle(rounds, "before"), None),
        ("beside the others, p50 ms", 1000 * _middle(rounds, "beside"), None),
        ("right answers a second beside", median(one.beside.per_second for one in rounds), None),
        (
            "the others, right answers a second",
            median(one.others.per_second for one in rounds),
            None,
        ),
    ):
        report.add(Finding(subject=subject, figure=name, value=value, target=limit))
    _tell_plain(subject, rounds, beside, report)
    _count_failures(subject, rounds, report)


def _tell_plain(subject: str, rounds: Sequence[Round], beside: float, report: Findings) -> None:
    plain = [one.plain for one in rounds if one.plain is not None]
    if plain:
        beside_plain = median(map(_p99, plain))
        for name, value in (
            ("cores that the others cost", median(one.cores for one in rounds)),
            ("beside as much plain work, p99 ms", 1000 * beside_plain),
            ("p99 beside by p99 beside plain work, times", beside / beside_plain),
        ):
            report.add(Finding(subject=subject, figure=name, value=value))


def _count_failures(subject: str, rounds: Sequence[Round], report: Findings) -> None:
    for one in rounds:
        for outcome in (one.before, one.beside, one.after, one.plain):
            for kind, count in (outcome.errors if outcome else {}).items():
                for _ in range(count):
                    report.fail(f"{subject}: {kind}")
        for kind, count in one.others.errors.items():
            for _ in range(0 if kind in _THEIRS else count):
                report.fail(f"the others: {kind}")


def _noise(rounds: Sequence[Round]) -> float:
    return median(one.noise_ratio for one in rounds)


def _middle(rounds: Sequence[Round], which: str) -> float:
    return float(median(getattr(one, which).latency["p50_seconds"] for one in rounds))


def _cores(outcome: Outcome) -> float:
    """That the server and all but the generator used."""
    used = outcome.processors
    return (used["server_seconds"] + used["other_seconds"]) / used["elapsed_seconds"]


def _p99(outcome: Outcome) -> float:
    return outcome.latency["p99_seconds"]

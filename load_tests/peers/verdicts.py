"""What the measured rows say: medians a server and load, the goals, and where we lose.

Decision: goals are ratios to what the peer did in the same run, never to a figure from elsewhere,
but for the one bound in milliseconds that no isolated peer has a figure for; Triton counts twice,
with the dynamic batching that who wants throughput turns on, and without. A goal that is missed is
told and fails nothing, for a shared machine misses some; a wrong answer does fail the run. A round
in which nothing was answered counts, as no answers a second and as endlessly slow.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from load_tests.findings import Finding
from load_tests.peers.contestants import COMPILED, NO_PEERS, OURS
from load_tests.report import Row

RIVALS = ("Triton, dynamic batching", "Triton, as by default")  # of one goal each
ALL_RESIDENT, ROOM_FOR_HALF = "Zipf, all resident", "Zipf, room for half"
_P99_TARGET_MS = 45.0
_LESS = 0.95  # times ours: memory that is less by more than where pages happened to be shared
_NAMES = {"per_second": "answers/s", "p50_ms": "p50", "p99_ms": "p99"}


def warm_mode(framework: str, connections: int) -> str:
    """The name of a load."""
    return f"{framework}, {connections} connections"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Medians over the rounds."""

    per_second: float
    p50_ms: float
    p99_ms: float
    server_us: float  # of processor time an answer: least disturbed by neighbours


Cells = Mapping[tuple[str, str], Figures]  # by subject and mode


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One goal beside what was measured."""

    goal: str
    measured: float | None  # None: one side was not measured
    target: float
    is_at_most: bool = False  # else at least

    @property
    def word(self) -> str:
        """For the table."""
        if self.measured is None:
            return "not measured"
        if self.is_at_most:
            return "met" if self.measured <= self.target else "missed"
        return "met" if self.measured >= self.target else "missed"


def work_out(rows: Sequence[Row]) -> Cells:
    """Medians of the rows that were measured, not of warming up."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.round:
            groups[row.subject, row.mode].append(row)
    return {
        key: Figures(
            per_second=median(row.outcome.per_second for row in members),
            p50_ms=1000 * median(_latency(row, "p50_seconds") for row in members),
            p99_ms=1000 * median(_latency(row, "p99_seconds") for row in members),
            server_us=1e6 * median(map(_processor_seconds, members)),
        )
        for key, members in groups.items()
    }


def _latency(row: Row, name: str) -> float:
    return row.outcome.latency[name] if row.outcome.answered else math.inf


def _processor_seconds(row: Row) -> float:
    outcome = row.outcome
    return outcome.processors["server_seconds"] / outcome.checked if outcome.checked else math.inf


def judge(cells: Cells) -> Iterator[Verdict]:
    """Every goal."""
    for subject, mode, figure, target in (
        (OURS, warm_mode("xgboost", 64), "per_second", 5.0),
        (OURS, warm_mode("torch", 64), "per_second", 2.5),
        (OURS, warm_mode("xgboost", 1), "p50_ms", 0.6),
        (COMPILED, warm_mode("xgboost", 1), "p50_ms", 0.6),
        (OURS, ALL_RESIDENT, "per_second", 2.5),
        (OURS, ALL_RESIDENT, "p99_ms", 1.0),
    ):
        for rival in RIVALS:
            told = mode if subject == OURS else f"{subject}: {mode}"
            yield Verdict(
                goal=f"{told}: {_NAMES[figure]} beside {rival}, times",
                measured=_ratio(cells, (subject, mode), (rival, mode), figure),
                target=target,
                is_at_most=figure != "per_second",
            )
    ratio = _ratio(cells, (OURS, ROOM_FOR_HALF), (OURS, ALL_RESIDENT), "per_second")
    name = f"{ROOM_FOR_HALF}: answers/s, times our own all resident"
    yield Verdict(goal=name, measured=ratio, target=0.8)
    ours = cells.get((OURS, ROOM_FOR_HALF))
    yield Verdict(
        goal=f"{ROOM_FOR_HALF}: p99 ms",
        measured=ours.p99_ms if ours else None,
        target=_P99_TARGET_MS,
        is_at_most=True,
    )


def judge_alone(findings: Sequence[Finding]) -> Iterator[Verdict]:
    """The goals that ours has without any peer."""
    for each in findings:
        if each.target is not None:
            yield Verdict(
                goal=f"{each.subject}: {each.figure}",
                measured=each.value,
                target=each.target,
                is_at_most=True,
            )


def _ratio(
    cells: Cells, ours: tuple[str, str], theirs: tuple[str, str], figure: str
) -> float | None:
    """None: one side was not measured, or theirs is nothing to be beside."""
    if ours not in cells or theirs not in cells or not cells[theirs].per_second:
        return None
    ratio: float = getattr(cells[ours], figure) / getattr(cells[theirs], figure)
    return ratio


def losses(cells: Cells) -> Iterator[str]:
    """Each load at which a peer is faster than ours, or slow less often."""
    for (subject, mode), theirs in cells.items():
        ours = cells.get((OURS, mode))
        if ours is None or subject in NO_PEERS:
            continue
        if theirs.per_second > ours.per_second:
            yield f"{mode}: {subject} {theirs.per_second:,.0f}/s, ours {ours.per_second:,.0f}/s"
        if theirs.p50_ms < ours.p50_ms:
            yield f"{mode}: {subject} p50 {theirs.p50_ms:.2f} ms, ours {ours.p50_ms:.2f} ms"
        if theirs.p99_ms < ours.p99_ms:
            yield f"{mode}: {subject} p99 {theirs.p99_ms:.1f} ms, ours {ours.p99_ms:.1f} ms"


def memory_losses(held_mib: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Each load, by its name, at whose end a peer held clearly less than ours, in MiB by server."""
    for when, found in held_mib.items():
        for subject, theirs in found.items():
            if OURS in found and subject not in NO_PEERS and theirs < _LESS * found[OURS]:
                yield f"memory, {when}: {subject} {theirs:,.0f} MiB, ours {found[OURS]:,.0f} MiB"


def late_losses(first_ms: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Each framework of which a peer's cold model answers sooner than ours."""
    for framework, found in first_ms.items():
        ours = found[OURS]
        for subject, theirs in found.items():
            if theirs < ours and subject != COMPILED:
                told = f"{subject} {theirs:.1f} ms, ours {ours:.1f} ms"
                yield f"first answer of a cold {framework} model: {told}"

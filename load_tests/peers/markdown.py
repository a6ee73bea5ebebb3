"""A comparison as tables for `docs/performance.md`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median

from load_tests.peers.verdicts import ALL_RESIDENT, ROOM_FOR_HALF, Cells, Figures, Verdict
from load_tests.processes import MEGABYTE


def write_markdown(
    cells: Cells,
    verdicts: Iterable[Verdict],
    memory_bytes: Mapping[str, Mapping[str, Sequence[int]]],
) -> str:
    """What was measured by server and load; memory; goals."""
    servers = list(dict.fromkeys(server for server, _mode in cells))
    modes = list(dict.fromkeys(mode for _server, mode in cells))
    mixes = [mode for mode in modes if mode in {ALL_RESIDENT, ROOM_FOR_HALF}]
    warm = [mode for mode in modes if mode not in mixes]
    held = (
        [server, *(_megabytes(found.get(server)) for found in memory_bytes.values())]
        for server in servers
    )
    goals = (
        [each.goal, _number(each.measured), f"{'<=' if each.is_at_most else '>='} {each.target:g}",
         each.word]
        for each in verdicts
    )  # fmt: skip
    tables = (
        *(_figures(cells, group) for group in (warm, mixes) if group),
        _table(["memory, MiB", *memory_bytes], held),
        _table(["goal", "measured", "target", ""], goals),
    )
    return "\n\n".join(tables) + "\n"


def _figures(cells: Cells, modes: Sequence[str]) -> str:
    servers = dict.fromkeys(server for server, mode in cells if mode in modes)
    rows = ([server, *(_cell(cells.get((server, mode))) for mode in modes)] for server in servers)
    return _table(["answers/s, p50 ms, p99 ms, server us", *modes], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(_lines(head, rows))


def _lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(row)} |"


def _cell(figures: Figures | None) -> str:
    if figures is None:
        return "-"
    latencies = f"{figures.p50_ms:.2f} / {figures.p99_ms:.1f}"
    return f"{figures.per_second:,.0f} / {latencies} / {figures.server_us:,.0f}"


def _megabytes(found: Sequence[int] | None) -> str:
    return f"{median(found) / MEGABYTE:,.0f}" if found else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"

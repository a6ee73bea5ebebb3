"""A comparison as tables for `docs/performance.md`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from load_tests.findings import Finding
from load_tests.peers.verdicts import ALL_RESIDENT, ROOM_FOR_HALF, Cells, Figures, Verdict

# by the table's title, the column and the server
ByServer = Mapping[str, Mapping[str, Mapping[str, str]]]


def write_markdown(
    cells: Cells, by_server: ByServer, alone: Sequence[Finding], verdicts: Iterable[Verdict]
) -> str:
    """What was measured by server and load; what else is told of servers; ours alone; goals."""
    modes = list(dict.fromkeys(mode for _server, mode in cells))
    mixes = [mode for mode in modes if mode in {ALL_RESIDENT, ROOM_FOR_HALF}]
    warm = [mode for mode in modes if mode not in mixes]
    found = ([f"{each.subject}: {each.figure}", f"{each.value:,.2f}"] for each in alone)
    goals = (
        [each.goal, _number(each.measured), f"{'<=' if each.is_at_most else '>='} {each.target:g}",
         each.word]
        for each in verdicts
    )  # fmt: skip
    tables = (
        *(_figures(cells, group) for group in (warm, mixes) if group),
        *(_told(title, columns) for title, columns in by_server.items()),
        *([_table(["mme alone", "measured"], found)] if alone else []),
        _table(["goal", "measured", "target", ""], goals),
    )
    return "\n\n".join(tables) + "\n"


def servers_of(columns: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Who is in any of the columns, in the order of appearance."""
    return list(dict.fromkeys(server for told in columns.values() for server in told))


def _told(title: str, columns: Mapping[str, Mapping[str, str]]) -> str:
    rows = (
        [server, *(told.get(server, "-") for told in columns.values())]
        for server in servers_of(columns)
    )
    return _table([title, *columns], rows)


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


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"

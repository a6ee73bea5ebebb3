"""Bars as a PNG, a panel a load, where matplotlib is installed: the extra `bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_COLUMNS = 2
_PANEL_INCHES = (6.0, 3.0)
_OURS, _OTHERS = "#c0392b", "#7f8c8d"


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One server's figure; ours is the one whose name begins with mme."""

    name: str
    value: float


def write_plot(path: Path, panels: Mapping[str, Sequence[Bar]]) -> str:
    """Draws the panels, named by their titles, at `path`; a sentence on what came of it."""
    if not find_spec("matplotlib"):
        return "No plot: matplotlib is not installed (the extra bench brings it)."
    if not panels:
        return "No plot: nothing was measured."
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    rows = -(-len(panels) // _COLUMNS)
    figure = Figure(
        figsize=(_COLUMNS * _PANEL_INCHES[0], rows * _PANEL_INCHES[1]), layout="constrained"
    )
    for number, (title, bars) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, _COLUMNS, number)
        ordered = sorted(bars, key=lambda bar: bar.value)
        names = [bar.name for bar in ordered]
        colors = [_OURS if name.startswith("mme") else _OTHERS for name in names]
        drawn = axes.barh(names, [bar.value for bar in ordered], color=colors)
        axes.bar_label(drawn, fmt="{:,.0f}", padding=3)
        axes.margins(x=0.15)
        axes.set_title(title)
    figure.savefig(path, dpi=100)
    return f"The plot is in {path}"

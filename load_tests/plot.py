"""Bars as a PNG, a panel a load or unit, where matplotlib is installed: the extra `bench`.

Decision: what would make it unreadable is left out, and told; the file beside it holds everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3
_PANEL_INCHES = (6.0, 3.0)
_BAR_INCHES = 0.25  # higher panels where there are many
_MOST_PANELS, _MOST_BARS = 36, 24
_OURS, _OTHERS = "#c0392b", "#7f8c8d"
_WHOLE_FROM = 100  # digits after the point say nothing above


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One server's figure; ours is the one whose name begins with mme."""

    name: str
    value: float


Panels = Mapping[str, Sequence[Bar]]  # by their titles


def write_plot(path: Path, panels: Panels) -> str:
    """Draws the panels at `path`; a sentence on what came of it."""
    if not find_spec("matplotlib"):
        return "No plot: matplotlib is not installed (the extra bench brings it)."
    finite = {title: [bar for bar in bars if isfinite(bar.value)] for title, bars in panels.items()}
    drawn = {title: bars[:_MOST_BARS] for title, bars in finite.items() if bars}
    drawn = dict(islice(drawn.items(), _MOST_PANELS))
    if not drawn:
        return "No plot: nothing was measured."
    _draw(path, drawn)
    left = sum(map(len, panels.values())) - sum(map(len, drawn.values()))
    return f"The plot is in {path}" + (f"; {left} bars did not fit in" if left else "")


def _draw(path: Path, panels: Panels) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    height = max(_PANEL_INCHES[1], _BAR_INCHES * max(map(len, panels.values())))
    figure = Figure(figsize=(columns * _PANEL_INCHES[0], rows * height), layout="constrained")
    for number, (title, bars) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        _fill(axes, sorted(bars, key=lambda bar: bar.value))
        axes.set_title(title)
    figure.savefig(path, dpi=80)


def _fill(axes: Axes, bars: Sequence[Bar]) -> None:
    names = [bar.name for bar in bars]
    colors = [_OURS if name.startswith("mme") else _OTHERS for name in names]
    drawn = axes.barh(names, [bar.value for bar in bars], color=colors)
    axes.bar_label(drawn, fmt=_number, padding=3)
    axes.margins(x=0.15)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= _WHOLE_FROM else f"{value:.3g}"

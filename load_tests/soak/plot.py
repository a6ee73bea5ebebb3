"""The run as lines over time, faults as bands, where matplotlib is installed: the extra `bench`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from load_tests.processes import MEGABYTE
from load_tests.soak.book import Injected
from load_tests.soak.watch import Sample

_SIZE_INCHES = (12.0, 9.0)
_MINUTE_SECONDS = 60.0
_Line = Callable[[Sample], float]
_PANELS: Mapping[str, Mapping[str, _Line]] = {
    "private memory, MB": {
        "server": lambda sample: sample.server_bytes / MEGABYTE,
        "workers": lambda sample: sample.worker_bytes / MEGABYTE,
        "charged to models": lambda sample: sample.charged_bytes / MEGABYTE,
    },
    "the server's": {
        "descriptors": lambda sample: sample.descriptors,
        "tasks": lambda sample: sample.tasks,
        "threads": lambda sample: sample.threads,
    },
}


def write_plot(path: Path, samples: Sequence[Sample], faults: Sequence[Injected]) -> str:
    """Draws at `path`; a sentence on what came of it."""
    if not find_spec("matplotlib"):
        return "No plot: matplotlib is not installed (the extra bench brings it)."
    if not samples:
        return "No plot: nothing was looked at."
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    start = samples[0].at
    minutes = [(sample.at - start) / _MINUTE_SECONDS for sample in samples]
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    axes = figure.subplots(len(_PANELS) + 1, sharex=True)
    for panel, (title, lines) in zip(axes, _PANELS.items(), strict=False):
        for name, value in lines.items():
            panel.plot(minutes, [value(sample) for sample in samples], label=name)
        panel.set_title(title)
        panel.legend(loc="upper left")
    rates = [
        (after.right_count - before.right_count) / (after.at - before.at)
        for before, after in pairwise(samples)
    ]
    axes[-1].plot(minutes[1:], rates)
    axes[-1].set_title("right answers/s; bands are faults and the time they take to pass")
    axes[-1].set_xlabel("minutes")
    for fault in faults:
        for panel in axes:
            band = [(moment - start) / _MINUTE_SECONDS for moment in (fault.since, fault.until)]
            panel.axvspan(*band, color="#c0392b", alpha=0.12, linewidth=0)
    figure.savefig(path, dpi=80)
    return f"The plot is in {path}"

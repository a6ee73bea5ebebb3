"""What every report leaves of a run: one JSON file with what its figures depend on, and a plot."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from load_tests.machine import machine_facts, versions
from load_tests.plot import Panels, write_plot


class RunReport(ABC):
    """A run's report.

    Args:
        scenario: names its files.
        started: so does this, in UTC.
        console: where it is told.
    """

    def __init__(self, scenario: str, started: datetime, console: Console) -> None:
        self._scenario, self._started, self._console = scenario, started, console

    def write(self, directory: Path, arguments: Mapping[str, Any]) -> Path:
        """Writes the run's file, which it returns, and beside it, where matplotlib is, its plot.

        Args:
            directory: made if it is not there.
            arguments: those that a figure depends on.
        """
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self._scenario}-{self._started:%Y%m%dT%H%M%SZ}.json"
        content = {
            "scenario": self._scenario,
            "started": self._started.isoformat(),
            "machine": machine_facts(),
            "versions": versions(),
            "arguments": arguments,
            "failures": self.failures(),
            **self.told(),
        }
        path.write_text(json.dumps(content, indent=1))
        self._console.print(self.draw(path.with_suffix(".png")), soft_wrap=True)
        return path

    def draw(self, path: Path) -> str:
        """Draws the plot at `path`; a sentence on what came of it."""
        return write_plot(path, self.panels())

    @abstractmethod
    def failures(self) -> dict[str, int]:
        """What makes the run a failed one, by kind."""

    @abstractmethod
    def told(self) -> dict[str, Any]:
        """For the file: all that was measured."""

    @abstractmethod
    def panels(self) -> Panels:
        """For the plot."""

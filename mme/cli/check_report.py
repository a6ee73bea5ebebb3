"""What `mme check` tells, a line a fact: from the artifact as unpacked, the engine's log and state.

Decision: it listens to the engine's own events (a structlog processor), so that what a model prints
and how long its requirements took is told as the server knows it, at the moment it does.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import structlog
from rich.console import Console
from rich.markup import escape

from mme.cli.recognise import ask_loaders
from mme.cli.words import in_bytes, in_seconds
from mme.workers.requirements import Requirements, find_requirements

MEMBERS_SHOWN = 20


class Report:
    """Facts about one tarball, told as they become known."""

    def __init__(self, tarball: Path) -> None:
        self.console = Console(soft_wrap=True, highlight=False)
        self.tarball = tarball
        self._artifact = tarball  # until it is unpacked
        self._requirements: Requirements | None = None
        self._build_seconds: float | None = None

    def tell(self, name: str, value: str) -> None:
        """One line."""
        self.console.print(f"[dim]{name:>12}[/dim]  {escape(value)}")

    def hear(self, _logger: object, _level: str, event: MutableMapping[str, Any]) -> NoReturn:
        """Takes an event of the engine's log, which is told here or nowhere."""
        if event["event"] in {"model_printed", "worker_output"}:
            self.tell("printed", str(event["line"]))
        elif event["event"] == "environment_built":
            self._build_seconds = event["seconds"]
        raise structlog.DropEvent

    def tell_contents(self, unpacked: Path) -> None:
        """What the tarball holds, if it got as far as lying in `unpacked`."""
        for artifact in (path for path in unpacked.iterdir() if path.is_dir()):
            files = sorted(path for path in artifact.rglob("*") if path.is_file())
            names = [str(path.relative_to(artifact)) for path in files]
            more = f" and {len(names) - MEMBERS_SHOWN} more" if len(names) > MEMBERS_SHOWN else ""
            self.tell("members", ", ".join(names[:MEMBERS_SHOWN]) + more)
            with suppress(ValueError):  # the engine refuses the model for what this would say
                self._requirements = find_requirements(artifact)
            self._artifact = artifact
        if self._requirements is not None:
            self.tell("requirements", ", ".join(self._requirements.lines))

    def tell_costs(self, state: dict[str, Any]) -> None:
        """What loading it took."""
        model = state["models"][0]
        self.tell("loader", ask_loaders(self._artifact))
        if self._requirements is not None:
            spent = self._build_seconds
            how = "built before" if spent is None else f"built in {in_seconds(spent)}"
            self.tell("environment", f"{self._requirements.digest}, {how}")
        holds = state["workers"][0]["isolation"]["holds"]
        self.tell("isolation", ", ".join(holds) or "none")
        self.tell("compressed", in_bytes(self.tarball.stat().st_size))
        self.tell("on disk", in_bytes(model["unpacked_bytes"]))
        self.tell("in memory", f"{in_bytes(model['bytes'])}, measured in its worker")
        self.tell("load time", in_seconds(model["load_seconds"]))

    def tell_failed_build(self, state: dict[str, Any]) -> bool:
        """What the installer said, if it failed."""
        failures = state["environments"]["failures"]
        for failure in failures:
            for line in failure["output"].splitlines():
                self.tell("uv says", line)
        return bool(failures)

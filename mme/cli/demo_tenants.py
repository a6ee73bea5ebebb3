"""The demo's tenants: models trained on the spot, and what their frameworks predict themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mme.errors import LoadFailed


@dataclass(frozen=True, kw_only=True, slots=True)
class Tenant:
    """One tenant's model as trained, and what it ought to answer."""

    name: str
    framework: str
    directory: Path
    content_type: str
    payload: str
    predictions: tuple[float, ...]

    @property
    def key(self) -> str:
        """The name of its tarball in the store, which is what `TargetModel` says."""
        return f"{self.name}.tar.gz"


def train(target: Path, count: int) -> Iterator[str]:
    """Trains `count` models below `target`, yielding a name as each is done. Raises LoadFailed."""
    command = [sys.executable, "-P", "-m", "loaders.samples", str(target)]
    command += ["--tenants", str(count), "--frameworks", "auto"]
    log = target / "train.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        for line in process.stdout or ():
            told = json.loads(line)
            if "tenant" in told:
                yield f"{told['tenant']} ({told['framework']})"
    if process.returncode:
        raise LoadFailed(
            f"training failed: {log.read_text().strip()[-1000:]}\n"
            "Is a framework installed? pip install 'mme[xgboost]' brings one."
        )


def read_tenants(target: Path) -> list[Tenant]:
    """What `train` has made."""
    return [
        Tenant(
            name=row["tenant"],
            framework=row["framework"],
            directory=target / row["directory"],
            content_type=row["content_type"],
            payload=row["payload"],
            predictions=tuple(flatten(row["predictions"])),
        )
        for row in json.loads((target / "manifest.json").read_text())
    ]


def flatten(numbers: Any) -> Iterator[float]:  # noqa: ANN401 - JSON, nested as deep as the framework likes
    """The numbers of a JSON answer in order, however they are nested."""
    if isinstance(numbers, list):
        for item in numbers:
            yield from flatten(item)
    else:
        yield float(numbers)

"""One JSON file a run, with what its figures depend on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from load_tests.machine import machine_facts, versions


def write_result(
    directory: Path, scenario: str, started: datetime, content: Mapping[str, Any]
) -> Path:
    """Writes it, named for the scenario and when it was started, in UTC."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{scenario}-{started:%Y%m%dT%H%M%SZ}.json"
    facts = {
        "scenario": scenario,
        "started": started.isoformat(),
        "machine": machine_facts(),
        "versions": versions(),
    }
    path.write_text(json.dumps({**facts, **content}, indent=1))
    return path

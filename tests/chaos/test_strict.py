"""`--isolation strict` on a kernel that lacks something, which `auto` does without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.old_kernel import LANDLOCK, SECCOMP, within
from tests.engines import drop
from tests.models import booster
from tests.servers import predict, runtime_client, serving

pytestmark = pytest.mark.timeout(60)
LACKING = {"Landlock": LANDLOCK, "seccomp": SECCOMP[os.uname().machine]}


@pytest.mark.parametrize("what", LACKING)
def test_strict_refuses_to_start_where_the_kernel_lacks_something_and_says_what(
    tmp_path: Path, what: str
) -> None:
    (tmp_path / "models").mkdir()
    command = [
        *within(LACKING[what]), sys.executable, "-m", "mme.cli.main", "serve", "--port", "0",
        "--models", str(tmp_path / "models"), "--cache-dir", str(tmp_path / "cache"),
        "--workers", "1", "--isolation", "strict", "--log-level", "error",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode != 0
    assert "is serving" not in done.stdout
    [told] = [line for line in done.stderr.splitlines() if line.startswith("mme: ")]
    assert told.startswith("mme: worker ended before it was ready: it exited with status 1; it ")
    assert "isolation is strict" in told
    assert f"({what}): Function not implemented" in told
    assert not list((tmp_path / "cache/workers").iterdir())


def test_auto_starts_without_it_and_tells_what_is_lacking(tmp_path: Path) -> None:
    drop(tmp_path / "models", "m1", booster(1).members)
    with (
        serving(tmp_path, tmp_path / "models", within=within(LANDLOCK)) as served,
        runtime_client(served.url) as client,
    ):
        assert predict(client, "m1") == pytest.approx(booster(1).prediction, rel=1e-6)
        [worker] = served.state()["workers"]
        [lacking] = [each for each in worker["isolation"]["lacks"] if "Landlock" in each]
        assert "Function not implemented" in lacking

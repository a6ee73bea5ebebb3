"""What CI makes of pip-audit's reports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "fixable"
FLAW = {"id": "PYSEC-1", "fix_versions": ["2.0"], "aliases": [], "description": ""}
SOUND = {"name": "a", "version": "1.0", "vulns": []}
FIXABLE = {"name": "b", "version": "1.0", "vulns": [FLAW]}
WITHOUT_FIX = {"name": "c", "version": "1.0", "vulns": [{**FLAW, "fix_versions": []}]}
SKIPPED = {"name": "b", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.mark.parametrize(
    ("reports", "code", "said"),
    [
        ([[SOUND, WITHOUT_FIX]], 0, "2 packages audited, 0 not found"),
        ([[SOUND, FIXABLE]], 1, "b 1.0: PYSEC-1, fixed in ['2.0']"),
        ([[SOUND, SKIPPED], [FIXABLE]], 1, "2 packages audited, 0 not found"),
        ([[SOUND, SKIPPED]], 0, "1 packages audited, 1 not found"),
        ([[SKIPPED], None], 0, "NOT AUDITED"),
        ([None, None], 0, "NOT AUDITED"),
    ],
)
def test_a_flaw_with_a_fix_fails_the_run_and_an_audit_of_nothing_says_so(
    tmp_path, reports, code, said
):
    paths = []
    for number, packages in enumerate(reports):
        path = tmp_path / f"{number}.json"
        path.write_text("" if packages is None else json.dumps({"dependencies": packages}))
        paths.append(str(path))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *paths], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (code, "")
    assert said in done.stdout

"""What a model's requirements bring runs within the sandbox only, from its first moment on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.landlock import needs_landlock
from tests.engines import drop, invocation, running_engine
from tests.models import booster
from tests.wheels import write_wheel

pytestmark = [pytest.mark.timeout(60), needs_landlock]


TRIES = """
import os, sys
from pathlib import Path
def tried(attempt):
    try:
        return attempt()
    except OSError as error:
        return type(error).__name__
def make_and_remove():
    own = Path(os.environ["TMPDIR"], "own")
    own.write_text("x")
    own.unlink()
def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(name))
sys.tried = {**getattr(sys, "tried", {}), __name__: {
    "read": tried(lambda: Path(SECRET).read_text()),
    "write": tried(lambda: Path(WRITTEN).write_text("x")),
    "list": tried(lambda: len(os.listdir(Path(SECRET).parent))),
    "own": tried(make_and_remove),
    "capabilities": status("CapEff"),
    "seccomp": status("Seccomp"),
    "pid": os.getpid(),
    "group": os.getpgid(0),
    "place": os.getcwd() == os.environ["TMPDIR"],
}}
"""
SHADOWING = (
    TRIES
    + """
import importlib.util
spec = importlib.util.spec_from_file_location(__name__, Path(os.__file__).with_name("signal.py"))
spec.loader.exec_module(sys.modules[__name__])
"""
)
SCRIPT = b"""
import json, sys
from pathlib import Path

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    Path("/proc/self/clear_refs").write_text("5")
    return json.dumps(sys.tried), "application/json"
"""


async def tell(root: Path, **settings: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the modules could do that stand before those of a worker, and the workers' state."""
    secret = root / "keys.toml"
    secret.write_text("s3cr3t")
    known = f"SECRET, WRITTEN = {str(secret)!r}, {str(root / 'written')!r}\n"
    modules = {
        "sitecustomize.py": known + TRIES,
        "signal.py": known + SHADOWING,
        "compileall.py": known + TRIES,
    }
    write_wheel(root / "wheels", "early", "1.0", modules)
    drop(root / "models", "plain", booster(1).members)
    script = {"code/inference.py": SCRIPT, "code/requirements.txt": b"early"}
    drop(root / "models", "early", script)
    offline = {"wheels": str(root / "wheels"), "package_index": "none"}
    async with running_engine(root, **offline, **settings) as engine:
        await engine.invoke(invocation("plain"))
        reply = await engine.invoke(invocation("early", b"[]", content_type="application/json"))
        return json.loads(reply.body), engine.state()["workers"]


async def test_modules_that_python_or_a_worker_would_import_first_reach_nothing_outside(
    tmp_path: Path,
) -> None:
    told, [plain, worker] = await tell(tmp_path)
    assert not (tmp_path / "written").exists()  # nor was any run to install it
    assert set(told) == {"sitecustomize", "signal"}
    for tried in told.values():
        assert tried == {
            "read": "PermissionError",
            "write": "PermissionError",
            "list": "PermissionError",
            "own": None,
            "capabilities": "0" * 16,
            "seccomp": "2",
            "pid": worker["pid"],
            "group": worker["pid"],
            "place": True,
        }
    assert worker["environment"]
    assert worker["isolation"] == plain["isolation"]
    assert "reading and writing of files (Landlock)" in worker["isolation"]["holds"]


async def test_where_isolation_is_off_they_run_as_any_code_of_a_models(tmp_path: Path) -> None:
    told, [_, worker] = await tell(tmp_path, isolation="off")
    assert told["sitecustomize"]["read"] == "s3cr3t"
    assert told["signal"]["pid"] == worker["pid"]
    assert worker["isolation"] == {"holds": [], "lacks": []}

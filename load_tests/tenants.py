"""The models under test: trained offline, packed, and what each has to answer to its row."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from load_tests.plan import Question
from load_tests.server_process import ROOT

_TRAIN_SECONDS = 600
_SAMPLED = ("xgboost", "torch")  # of which `loaders.samples` makes as many as are asked for


class TrainingFailed(Exception):
    """The sample models could not be made."""


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """One packed model and its question."""

    framework: str
    question: Question


def installed_frameworks() -> list[str]:
    """Those that there are models and others' figures for."""
    return [name for name in _SAMPLED if find_spec(name)]


def all_frameworks() -> list[str]:
    """Those of which a small model can be trained here."""
    packages = {"onnx": ("onnx", "onnxruntime")}
    names = (*_SAMPLED, "sklearn", "lightgbm", "catboost", "onnx", "tensorflow")
    return [name for name in names if all(map(find_spec, packages.get(name, (name,))))]


def train(target: Path, count: int, frameworks: str) -> None:
    """Trains `count` models into `target`, which is absolute. Raises TrainingFailed."""
    command = ["-P", "-m", "loaders.samples", str(target)]
    _run([*command, "--tenants", str(count), "--frameworks", frameworks, "--seed", "0"])


def train_one_each(target: Path, frameworks: Sequence[str]) -> None:
    """Trains one model of each into `target`, which is absolute. Raises TrainingFailed."""
    target.mkdir()
    sampled = [name for name in frameworks if name in _SAMPLED]
    others = [name for name in frameworks if name not in _SAMPLED]
    rows = []
    if sampled:
        train(target, len(sampled), ",".join(sampled))
        rows += json.loads((target / "manifest.json").read_text())
    if others:
        _run(["-W", "ignore", "-m", "load_tests.framework_models", str(target), ",".join(others)])
        rows += json.loads((target / "manifest.json").read_text())
    (target / "manifest.json").write_text(json.dumps(rows))


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(
            [sys.executable, *command], cwd=ROOT,
            check=True, capture_output=True, text=True, timeout=_TRAIN_SECONDS,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise TrainingFailed(f"training failed:\n{error.stderr.strip()[-2000:]}") from error
    except subprocess.TimeoutExpired as error:
        raise TrainingFailed(f"training took more than {_TRAIN_SECONDS} s") from error


def pack(trained: Path, models: Path) -> list[Tenant]:
    """Packs what `train` has made into the directory `models`, a tarball a tenant."""
    rows = json.loads((trained / "manifest.json").read_text())
    return [_pack_one(row, trained / row["directory"], models) for row in rows]


def _pack_one(row: dict[str, Any], directory: Path, models: Path) -> Tenant:
    name = f"{row['tenant']}.tar.gz"
    with tarfile.open(models / name, "w:gz") as archive:
        for member in sorted(directory.iterdir()):
            archive.add(member, arcname=member.name)
    question = Question(
        target=name,
        body=row["payload"].splitlines()[0],
        expected=tuple(_flatten(row["predictions"][0])),
    )
    return Tenant(framework=row["framework"], question=question)


def _flatten(numbers: Any) -> Iterator[float]:  # noqa: ANN401 - JSON, as deep as the framework likes
    if isinstance(numbers, list):
        for item in numbers:
            yield from _flatten(item)
    else:
        yield float(numbers)

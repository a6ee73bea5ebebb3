"""Small real models for demos, tests and load tests, each with the framework's own predictions.

Decision: what is written beside a model comes from `Booster.predict` or the torch module itself,
never from a loader, so that whoever compares with it checks the loaders too.

    python -m loaders.samples OUT --tenants 8 --frameworks xgboost,torch --seed 0
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PAYLOAD_ROWS = 3
_TRAINING_ROWS = 2000
_HIDDEN = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One trained model and what it answers."""

    framework: str
    path: Path
    content_type: str
    payload: str
    predictions: list[Any]  # a number or a list of numbers a row


def train_xgboost(
    path: Path, seed: int, *, trees: int = 100, depth: int = 6, features: int = 30
) -> Sample:
    """Trains a classifier on its own data and saves it at `path`, of any suffix XGBoost knows."""
    import xgboost  # noqa: PLC0415 - on demand

    random = np.random.default_rng(seed)
    rows = random.normal(size=(_TRAINING_ROWS, features))
    noise = random.normal(size=_TRAINING_ROWS)
    labels = (rows @ random.normal(size=features) + 4 * noise > 0).astype(int)
    parameters = {"objective": "binary:logistic", "max_depth": depth, "nthread": 1, "seed": seed}
    booster = xgboost.train(parameters, xgboost.DMatrix(rows, labels, nthread=1), trees)
    if path.suffix in {".json", ".ubj"}:
        booster.save_model(path)
    else:
        path.write_bytes(booster.save_raw("ubj"))
    asked, payload = _payload(random, features)
    predictions = booster.predict(xgboost.DMatrix(asked, nthread=1)).tolist()
    return Sample(
        framework="xgboost",
        path=path,
        content_type="text/csv",
        payload=payload,
        predictions=predictions,
    )


def train_torch(path: Path, seed: int, *, features: int = 30) -> Sample:
    """Fits a small network for a few steps and saves it at `path` as TorchScript."""
    import torch  # noqa: PLC0415 - on demand

    random = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = torch.nn.Sequential(
            torch.nn.Linear(features, _HIDDEN),
            torch.nn.ReLU(),
            torch.nn.Linear(_HIDDEN, _HIDDEN),
            torch.nn.ReLU(),
            torch.nn.Linear(_HIDDEN, 2),
        )
        rows = torch.randn(256, features)
        labels = (rows @ torch.randn(features) > 0).long()
    for _ in range(5):  # by hand: importing torch.optim takes seconds
        loss = torch.nn.functional.cross_entropy(module(rows), labels)
        weights = tuple(module.parameters())
        with torch.no_grad():
            for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.sub_(0.1 * slope)
    module.eval()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        script: Any = torch.jit.script(module)
        script.save(str(path))
    asked, payload = _payload(random, features)
    with torch.inference_mode():
        predictions = module(torch.from_numpy(asked)).tolist()
    return Sample(
        framework="torch",
        path=path,
        content_type="text/csv",
        payload=payload,
        predictions=predictions,
    )


def _payload(random: np.random.Generator, features: int) -> tuple[NDArray[np.float32], str]:
    rows = random.normal(size=(_PAYLOAD_ROWS, features)).round(4)
    text = "\n".join(",".join(map(str, row)) for row in rows.tolist())
    return rows.astype(np.float32), text


def _chosen(names: str) -> list[str]:
    if names != "auto":
        return names.split(",")
    installed = [name for name in ("xgboost", "torch") if find_spec(name)]
    if "torch" not in installed:
        _say({"note": "torch is not installed: its samples are left out"})
    return installed


def _say(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def _trainers(options: argparse.Namespace) -> dict[str, tuple[str, Callable[[Path, int], Sample]]]:
    def xgboost(path: Path, seed: int) -> Sample:
        return train_xgboost(
            path, seed, trees=options.trees, depth=options.depth, features=options.features
        )

    def torch(path: Path, seed: int) -> Sample:
        return train_torch(path, seed, features=options.features)

    return {"xgboost": ("xgboost-model", xgboost), "torch": ("model.pt", torch)}


def main() -> int:
    """Trains one model a tenant, the frameworks taking turns, and writes the manifest."""
    options = _arguments()
    trainers = _trainers(options)
    frameworks = _chosen(options.frameworks)
    if not frameworks or not set(frameworks) <= set(trainers):
        sys.stderr.write(f"no such framework, or none installed: {options.frameworks}\n")
        return 1
    manifest = []
    for number in range(1, options.tenants + 1):
        tenant = f"tenant-{number:02}"
        directory = options.out / tenant
        directory.mkdir(parents=True, exist_ok=True)
        name, train = trainers[frameworks[(number - 1) % len(frameworks)]]
        started = time.perf_counter()
        sample = train(directory / name, options.seed + number)
        seconds = round(time.perf_counter() - started, 3)
        size_bytes = sample.path.stat().st_size
        entry = asdict(sample) | {"tenant": tenant, "directory": str(directory)}
        del entry["path"]
        manifest.append(entry)
        _say(
            {
                "tenant": tenant,
                "framework": sample.framework,
                "bytes": size_bytes,
                "seconds": seconds,
            }
        )
    (options.out / "manifest.json").write_text(json.dumps(manifest, indent=1))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="loaders.samples", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="directory to write to")
    parser.add_argument("--tenants", type=int, default=8)
    parser.add_argument("--frameworks", default="auto", help="a comma list, or auto: as installed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--features", type=int, default=30)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

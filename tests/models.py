"""Real models for tests: small, quick to make, each with its framework's own answer."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import xgboost

FEATURES = 4
SPINNER_BYTES = 1_000_000
ROW = [0.1, 0.2, 0.3, 0.4]
CSV = b"0.1,0.2,0.3,0.4"


@dataclass(frozen=True)
class Trained:
    """A saved model and what its framework predicts for ROW."""

    name: str  # the file's
    data: bytes
    prediction: float

    @property
    def members(self) -> dict[str, bytes]:
        return {self.name: self.data}


DART = {"booster": "dart", "rate_drop": 0.5, "one_drop": 1}
"""Trees that count by weights; without drops it is a gbtree since XGBoost 3.3."""


@lru_cache(maxsize=1000)
def booster(seed: int, trees: int = 5, depth: int = 3, *, dart: bool = False) -> Trained:
    """A regression booster; every seed predicts something else.

    As dart it stays XGBoost's own, in six times the memory of a flat forest.
    """
    random = np.random.default_rng(seed)
    rows = random.random((64, FEATURES))
    target = rows.sum(axis=1) * (1 + seed) + random.random(64)
    model = xgboost.train(
        {"max_depth": depth, "nthread": 1, "seed": seed, **({"booster": "dart"} if dart else {})},
        xgboost.DMatrix(rows, label=target),
        num_boost_round=trees,
    )
    prediction = float(model.predict(xgboost.DMatrix(np.array([ROW])))[0])
    return Trained("xgboost-model", bytes(model.save_raw("ubj")), prediction)


@lru_cache(maxsize=1)
def spinner() -> bytes:
    """A TorchScript model that keeps its worker busy for as many rounds as its first input says."""
    import torch  # noqa: PLC0415 - two seconds that most tests need not spend

    class Spinner(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.rand(SPINNER_BYTES // 4))  # so that it counts

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            total = torch.zeros(1)
            for _ in range(int(x[0][0])):
                total += torch.ones(64, 64).mm(torch.ones(64, 64)).sum() * 0
            return x + total

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit: what users have
        torch.jit.save(torch.jit.script(Spinner()), buffer)
    return buffer.getvalue()

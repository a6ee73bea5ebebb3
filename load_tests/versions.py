"""Versions of one model that each predict another number: one booster, another base score."""

from __future__ import annotations

import io
import json
import tarfile
import time
from pathlib import Path

import numpy as np

_FEATURES = 4
_ROW = (0.1, 0.2, 0.3, 0.4)
_STEP = 0.125  # between the predictions of two versions: exact in binary
_TOLERANCE = 0.01  # of a step


class Versions:
    """Writes them, one over the other, and knows them by their predictions.

    Args:
        target: the object; replaced whole, as a careful uploader does.
        scratch: on the same file system.
    """

    def __init__(self, target: Path, scratch: Path) -> None:
        import xgboost  # noqa: PLC0415 - Bench says how many threads it begins

        self._target, self._incoming = target, scratch / "incoming"
        random = np.random.default_rng(0)
        rows = random.random((64, _FEATURES))
        matrix = xgboost.DMatrix(rows, label=rows.sum(axis=1))
        parameters = {"max_depth": 3, "nthread": 1, "base_score": 0.0}
        booster = xgboost.train(parameters, matrix, num_boost_round=5)
        self._first = float(booster.predict(xgboost.DMatrix(np.array([_ROW])))[0])
        self._saved = json.loads(bytes(booster.save_raw("json")))
        self.row = ",".join(map(str, _ROW)).encode()

    def write(self, number: int) -> float:
        """Puts version `number` in place; when that was done, by `time.monotonic`."""
        parameters = self._saved["learner"]["learner_model_param"]
        parameters["base_score"] = str(number * _STEP)
        data = json.dumps(self._saved).encode()
        member = tarfile.TarInfo("model.json")
        member.size = len(data)
        with tarfile.open(self._incoming, "w:gz", compresslevel=1) as archive:
            archive.addfile(member, io.BytesIO(data))
        self._incoming.replace(self._target)
        return time.monotonic()

    def number_of(self, body: bytes) -> int | None:
        """The version that predicts what `body` says; None if there is none."""
        try:
            steps = (float(body) - self._first) / _STEP
        except ValueError:
            return None
        return round(steps) if abs(steps - round(steps)) < _TOLERANCE else None

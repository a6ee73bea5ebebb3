"""How XGBoost's answers are written: as they are, or the parts that the operator selected.

Decisions: without SAGEMAKER_INFERENCE_OUTPUT it is SageMaker's image in multi-model mode: JSON a
bare list, csv one line. With it, which the image honours for single models only, it is the image's
selectable inference, key for key, odd ones too: `raw_scores` of multi:softmax is [1 - x, x]. Our
own are two: the warning about keys that the objective has not comes once a model instead of with
every request, and records do not repeat the rows before them.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from loaders.codecs import ENCODERS, Array, Encoder, csv_line
from loaders.contract import PredictionRaised
from loaders.recordio import write_records

SELECTION = "SAGEMAKER_INFERENCE_OUTPUT"  # the image's own switch
_NOT_A_NUMBER = float("nan")
_LOG = logging.getLogger(__name__)

# What `Booster.predict` gave for a row, and the number of classes -> a part of the answer.
_Part = Callable[[Any, int], object]


def _itself(raw: Any, _: int) -> object:  # noqa: ANN401 - a number, or a list of them
    return raw


def _pair(raw: float, _: int) -> list[float]:
    return [1.0 - raw, raw]


def _winner(raw: list[float], _: int) -> float:
    return max(raw)


def _classes(_: object, classes: int) -> list[int]:
    return list(range(classes))


_REGRESSION: Mapping[str, _Part] = {"predicted_score": _itself}
_CLASS: Mapping[str, _Part] = {
    "predicted_label": _itself,
    "labels": _classes,
    "raw_score": _itself,
    "raw_scores": _pair,
}
_PARTS: Mapping[str, Mapping[str, _Part]] = MappingProxyType(
    {
        "reg:squarederror": _REGRESSION,
        "reg:logistic": _REGRESSION,
        "reg:gamma": _REGRESSION,
        "reg:absoluteerror": _REGRESSION,
        "reg:tweedie": _REGRESSION,
        "binary:hinge": _CLASS,
        "multi:softmax": _CLASS,
        "binary:logitraw": {**_CLASS, "predicted_label": lambda raw, _: int(raw > 0)},
        "binary:logistic": {
            **_CLASS,
            "predicted_label": lambda raw, _: int(raw > 0.5),  # noqa: PLR2004 - even odds
            "probability": _itself,
            "probabilities": _pair,
        },
        "multi:softprob": {
            "predicted_label": lambda raw, _: raw.index(max(raw)),
            "labels": _classes,
            "probability": _winner,
            "probabilities": _itself,
            "raw_score": _winner,
            "raw_scores": _itself,
        },
    }
)


def answer_encoders(objective: str, classes: int) -> Mapping[str, Encoder]:
    """Format -> how an answer is written, the default format first.

    Args:
        objective: the model's, e.g. "binary:logistic".
        classes: of a "multi:" objective; of any other it does not matter.
    """
    keys = os.environ.get(SELECTION, "").replace(" ", "").lower()
    if not keys:
        return {**ENCODERS, "csv": csv_line}  # on one line, as the image does in multi-model mode
    if objective.startswith("binary:"):
        classes = 2
    selected = _Selected(keys=tuple(keys.split(",")), objective=objective, classes=classes)
    selected.warn()
    return {
        "csv": selected.encode_csv,
        "json": selected.encode_json,
        "jsonlines": selected.encode_jsonlines,
        "recordio-protobuf": selected.encode_recordio,
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Selected:
    """Writes the parts of each answer that were asked for, csv in the order they were."""

    keys: tuple[str, ...]
    objective: str
    classes: int

    def warn(self) -> None:
        parts = _PARTS.get(self.objective, {})
        strangers = [key for key in self.keys if key not in parts]
        if parts and strangers:
            _LOG.warning(
                "Selected key(s) %s incompatible for objective '%s'. "
                "Please use list of compatible selectable inference predictions: %s",
                strangers,
                self.objective,
                list(parts),
            )

    def encode_csv(self, outputs: Array) -> bytes:
        rows = self._rows(outputs)
        return "\n".join(",".join(_cell(row[key]) for key in self.keys) for row in rows).encode()

    def encode_json(self, outputs: Array) -> bytes:
        return json.dumps({"predictions": self._rows(outputs)}).encode()  # NaN where need be

    def encode_jsonlines(self, outputs: Array) -> bytes:
        return "".join(f"{json.dumps(row)}\n" for row in self._rows(outputs)).encode()

    def encode_recordio(self, outputs: Array) -> bytes:
        return write_records(
            {key: np.array(part, dtype=np.float32) for key, part in row.items()}
            for row in self._rows(outputs)
        )

    def _rows(self, outputs: Array) -> list[dict[str, object]]:
        parts = _PARTS.get(self.objective)
        if parts is None:
            raise PredictionRaised(
                f"Objective `{self.objective}` unsupported for selectable inference predictions."
            )
        chosen = {key: parts.get(key, _absent) for key in self.keys}
        return [
            {key: part(raw, self.classes) for key, part in chosen.items()}
            for raw in outputs.tolist()
        ]


def _absent(_: object, __: int) -> float:
    return _NOT_A_NUMBER


def _cell(part: object) -> str:
    return f'"{part}"' if isinstance(part, list) else str(part)

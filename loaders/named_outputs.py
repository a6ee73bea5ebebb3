"""Named arrays to an answer: one output as it is, several as an object by their names.

Decisions: csv, npy and recordio have no names, so that they are written only for models of one
output that is an array; of the others' rows jsonlines makes an object each. TensorFlow's clients
get TensorFlow Serving's envelopes around the same: "predictions" by rows, "outputs" by outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from loaders.codecs import ENCODERS, Array, encode_json
from loaders.content_types import Accept
from loaders.contract import Answer, PredictionRaised, UnsupportedAccept

Outputs = Mapping[str, Array]
NAMED = ("json", "jsonlines")
TABULAR = tuple(ENCODERS)


def write_outputs(outputs: Outputs, accept: Accept, envelope: str | None = None) -> Answer:
    """Writes what a model gave.

    Args:
        outputs: at least one array; of dtype object for texts, maps and lists.
        accept: one of NAMED, or of TABULAR where there is one array.
        envelope: "predictions", "outputs" or None, for JSON.

    Raises:
        UnsupportedAccept: there are names to write, and no place for them in what is accepted.
        PredictionRaised: there are rows to write and the outputs have no rows in common.
    """
    if accept.name == "json" and envelope is None and len(outputs) == 1:
        [array] = outputs.values()
        return Answer(encode_json(array), accept.content_type)
    if accept.name == "json":
        return Answer(msgspec.json.encode(_document(outputs, envelope)), accept.content_type)
    if accept.name == "jsonlines":
        lines = (msgspec.json.encode(row) + b"\n" for row in _rows(outputs))
        return Answer(b"".join(lines), accept.content_type)
    if len(outputs) > 1:
        raise UnsupportedAccept(
            f"The model has several outputs ({', '.join(outputs)[:200]}), which "
            f"{accept.content_type} can't name: accept application/json or application/jsonlines."
        )
    [array] = outputs.values()
    return Answer(ENCODERS[accept.name](array), accept.content_type)


def _document(outputs: Outputs, envelope: str | None) -> object:
    if envelope == "predictions":
        return {envelope: _rows(outputs) if len(outputs) > 1 else _only(outputs)}
    document = _only(outputs) if len(outputs) == 1 else _lists(outputs)
    return document if envelope is None else {envelope: document}


def _only(outputs: Outputs) -> object:
    [array] = outputs.values()
    return array.tolist()


def _lists(outputs: Outputs) -> dict[str, Any]:
    return {name: array.tolist() for name, array in outputs.items()}


def _rows(outputs: Outputs) -> list[Any]:
    arrays = [np.atleast_1d(array).tolist() for array in outputs.values()]
    if len({len(array) for array in arrays}) > 1:
        raise PredictionRaised("The model's outputs have no rows in common: ask for JSON.")
    if len(arrays) == 1:
        return list(arrays[0])
    return [dict(zip(outputs, row, strict=True)) for row in zip(*arrays, strict=True)]

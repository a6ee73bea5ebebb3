"""CatBoost: .cbm, JSON and pickles; an answer is what `predict` of the model's own class gives.

Decisions: a model that was trained to classify answers classes, every other one numbers as
CatBoostRegressor gives them; which it is stands in the file. Features that are categories or texts
are taken as the texts that the client wrote, so csv cells and JSON strings and integers alike. One
thread a prediction: cores belong to the server.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loaders.catboost_document import check_document
from loaders.catboost_json import check_json
from loaders.cells import ALL_CELLS
from loaders.checked import Checked
from loaders.codecs import DECODERS, Array
from loaders.contract import (
    Answer,
    BadPayload,
    LoadRefused,
    Model,
    ModelFault,
    Payload,
    Trust,
)
from loaders.one_file import only_file
from loaders.pickles import RAISED_BY_PICKLES, read_pickle
from loaders.rows import RowPredictor
from loaders.sniff import CATBOOST_KINDS, sniff

_NAMES = ("*.cbm",)
_checked = Checked(check_document)
_checked_json = Checked(check_json)
_LOSS = re.compile(  # by its name, or as {"type": name, "params": {...}}
    rb'"loss_function"\s*:\s*(?:\{(?:[^{}]|\{[^{}]*\})*?"type"\s*:\s*)?"(\w+)'
)
_CLASSIFYING = frozenset(
    {
        b"CrossEntropy",
        b"Focal",
        b"Logloss",
        b"MultiClass",
        b"MultiClassOneVsAll",
        b"MultiCrossEntropy",
        b"MultiLogloss",
    }
)
_PLACE_IN_CATBOOST = re.compile(r"^\S+\.(?:cpp|h):\d+: ")


class CatboostLoader:
    """Loads the one model of a directory."""

    name = "catboost"

    def prepare(self) -> None:
        """Imports CatBoost. Raises LoadRefused where it is not installed."""
        try:
            import catboost  # noqa: F401, PLC0415 - on demand
        except ImportError as exc:
            raise LoadRefused("catboost is not installed: pip install 'mme[catboost]'.") from exc

    def load(self, directory: Path, trust: Trust) -> Model:
        """Loads the directory's model, whatever its file is called."""
        self.prepare()
        path = only_file(directory, CATBOOST_KINDS, _NAMES)
        return CatboostModel(_read_model(path, trust), path.stat().st_size)


class CatboostModel:
    """One model, asked to predict."""

    def __init__(self, model: Any, size_bytes: int) -> None:  # noqa: ANN401 - it has no types
        self._model = model
        self._size_bytes = size_bytes
        self._categories: list[int] = model.get_cat_feature_indices()
        self._texts: list[int] = model.get_text_feature_indices()
        plain = not self._categories and not self._texts
        self._rows = RowPredictor(
            width=len(model.feature_names_),
            run=self._run,
            decoders=DECODERS if plain else ALL_CELLS,
            absent=0.0,
        )
        if plain:  # a tensor of numbers can't tell a category
            self.tensors = self._rows

    def predict(self, payloads: Sequence[Payload]) -> list[Answer | ModelFault]:
        """Answers in the order of `payloads`."""
        return self._rows.predict(payloads)

    def nbytes(self) -> int:
        """The size of the file, near what the trees take."""
        return self._size_bytes

    def close(self) -> None:
        """Drops the model."""
        self._model = None

    def _run(self, rows: Array) -> Array:
        from catboost import CatBoostError  # noqa: PLC0415 - loaded long ago

        table = self._as_cells(rows) if self._categories or self._texts else rows
        try:
            answer: Array = self._model.predict(table, thread_count=1)
        except (CatBoostError, TypeError, ValueError) as exc:  # cells unlike those it learned from
            raise BadPayload(f"Unable to evaluate payload provided: {_line(exc)}") from exc
        return answer

    def _as_cells(self, rows: Array) -> Array:
        """Texts and integers where the model has categories or texts; an empty cell is missing."""
        cells = rows.astype(object)
        for column in range(cells.shape[1]):
            if column in self._categories or column in self._texts:
                cells[:, column] = [_category(cell) for cell in cells[:, column]]
            else:
                cells[:, column] = ["nan" if cell == "" else cell for cell in cells[:, column]]
        return cells


def _category(cell: object) -> object:
    """JSON from numpy writes the integer 1 as 1.0."""
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell


def _read_model(path: Path, trust: Trust) -> Any:  # noqa: ANN401 - it has no types
    import catboost  # noqa: PLC0415 - loaded long ago

    try:
        if (kind := sniff(path)).startswith("pickle"):
            return _unpickle(path, trust)
        data = path.read_bytes()
        made = catboost.CatBoostClassifier() if _classifies(data) else catboost.CatBoostRegressor()
        if kind == "catboost json":
            _checked_json(data)
            return made.load_model(str(path), format="json")
        _checked(data)
        return made.load_model(str(path))  # from bytes, it would forget to count by exp()
    except (catboost.CatBoostError, *RAISED_BY_PICKLES) as exc:
        raise LoadRefused(f"Unable to load model: {path.name[:80]}: {_line(exc)}") from exc


def _unpickle(path: Path, trust: Trust) -> Any:  # noqa: ANN401 - it has no types
    import catboost  # noqa: PLC0415 - loaded long ago

    if not trust.code:
        raise LoadRefused(
            f"Unable to load model: {path.name[:80]} is a pickle, which runs code while it is "
            "loaded, and only data is trusted here. Save it with save_model() as .cbm."
        )
    found = read_pickle(path)
    if not isinstance(found, catboost.CatBoost) or not found.is_fitted():
        raise TypeError(f"the pickle holds a {type(found).__name__}, not a fitted CatBoost model")
    return found


def _classifies(data: bytes) -> bool:
    loss = _LOSS.search(data.replace(b'\\"', b'"'))
    return b"class_params" in data if loss is None else loss[1] in _CLASSIFYING


def _line(exc: Exception) -> str:
    """CatBoost's own words, without its source files."""
    line = (str(exc).splitlines() or [""])[0]
    return _PLACE_IN_CATBOOST.sub("", line)[:200] or type(exc).__name__


LOADER = CatboostLoader()

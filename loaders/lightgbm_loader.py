"""LightGBM: text models and pickles; an answer is what `Booster.predict` gives, however saved.

Decisions: a pickled LGBMClassifier answers the probabilities that the same model saved by
`save_model` answers, as with XGBoost. Categories are the codes that the booster was trained on: a
pandas column's categories are not looked up. One thread a prediction: cores belong to the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loaders.codecs import Array
from loaders.contract import (
    Answer,
    LoadRefused,
    Model,
    ModelFault,
    Payload,
    PredictionRaised,
    Trust,
)
from loaders.lightgbm_document import sound_part
from loaders.one_file import only_file
from loaders.pickles import RAISED_BY_PICKLES, read_pickle
from loaders.rows import RowPredictor
from loaders.signatures import OUTPUT_NAME, TensorSpec
from loaders.sniff import LIGHTGBM_KINDS, sniff

if TYPE_CHECKING:
    import lightgbm

_NAMES = ("model.txt",)


class LightgbmLoader:
    """Loads the one booster of a directory."""

    name = "lightgbm"

    def prepare(self) -> None:
        """Imports LightGBM. Raises LoadRefused where it is not installed."""
        try:
            import lightgbm  # noqa: F401, PLC0415 - on demand
        except ImportError as exc:
            raise LoadRefused("lightgbm is not installed: pip install 'mme[lightgbm]'.") from exc

    def load(self, directory: Path, trust: Trust) -> Model:
        """Loads the directory's booster, whatever its file is called."""
        self.prepare()
        path = only_file(directory, LIGHTGBM_KINDS, _NAMES)
        return LightgbmModel(_read_booster(path, trust), path.stat().st_size)


class LightgbmModel:
    """One booster."""

    def __init__(self, booster: lightgbm.Booster, size_bytes: int) -> None:
        self._booster: Any = booster
        self._size_bytes = size_bytes
        classes = booster.num_model_per_iteration()
        shape = (-1, classes) if classes > 1 else (-1,)
        self.tensors = self._rows = RowPredictor(
            width=booster.num_feature(),
            run=self._run,
            kind=np.float64,
            absent=0.0,
            outputs=(TensorSpec(name=OUTPUT_NAME, datatype="FP64", shape=shape),),
        )

    def predict(self, payloads: Sequence[Payload]) -> list[Answer | ModelFault]:
        """Answers in the order of `payloads`."""
        return self._rows.predict(payloads)

    def nbytes(self) -> int:
        """The size of the file, near what the trees take."""
        return self._size_bytes

    def close(self) -> None:
        """Drops the booster."""
        self._booster = None

    def _run(self, rows: Array) -> Array:
        from lightgbm.basic import LightGBMError  # noqa: PLC0415 - loaded long ago

        try:
            answer: Array = self._booster.predict(rows, num_threads=1)
        except (LightGBMError, ValueError, TypeError) as exc:
            raise PredictionRaised(f"LightGBM could not predict: {_first_line(exc)}") from exc
        return answer


def _read_booster(path: Path, trust: Trust) -> lightgbm.Booster:
    import lightgbm  # noqa: PLC0415 - loaded long ago

    try:
        if sniff(path).startswith("pickle"):
            return _unpickle(path, trust)
        return lightgbm.Booster(model_str=sound_part(path.read_text(encoding="utf-8")))
    except (lightgbm.basic.LightGBMError, *RAISED_BY_PICKLES) as exc:
        raise LoadRefused(f"Unable to load model: {path.name[:80]}: {_first_line(exc)}") from exc


def _unpickle(path: Path, trust: Trust) -> lightgbm.Booster:
    import lightgbm  # noqa: PLC0415 - loaded long ago

    if not trust.code:
        raise LoadRefused(
            f"Unable to load model: {path.name[:80]} is a pickle, which runs code while it is "
            "loaded, and only data is trusted here. Save it with save_model() as .txt."
        )
    found = read_pickle(path)
    booster = getattr(found, "booster_", found)  # LGBMClassifier and its sisters
    if not isinstance(booster, lightgbm.Booster):
        raise TypeError(f"the pickle holds a {type(found).__name__}, not a Booster")
    return booster


def _first_line(exc: Exception) -> str:
    return (str(exc).splitlines() or [""])[0][:200] or type(exc).__name__


LOADER = LightgbmLoader()

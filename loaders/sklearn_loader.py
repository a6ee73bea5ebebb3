"""scikit-learn, served as SageMaker's image serves it: an answer is what `predict` gives.

Decisions: rows are numbers of 64 bits, or texts where the client sends texts as JSON. Payloads are
joined only where all of an estimator is scikit-learn's own, whose rows are independent; another's
`predict` is asked once a payload. A saved n_jobs is not obeyed: cores belong to the server, and
starting threads costs more than a small forest. Who picks columns by name gets a DataFrame,
as nothing else would do; others get arrays, which is many times as quick.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from loaders.cells import NUMBERS_OR_TEXTS
from loaders.codecs import Array
from loaders.contract import (
    Answer,
    BadPayload,
    LoadRefused,
    Model,
    ModelFault,
    Payload,
    PredictionRaised,
    Trust,
)
from loaders.one_file import only_file
from loaders.rows import RowPredictor
from loaders.sniff import SKLEARN_KINDS

NAMES = ("model.pkl", "model.pickle", "*.joblib", "*.skops")
_RAISED_BY_ESTIMATORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


class SklearnLoader:
    """Loads the one estimator of a directory."""

    name = "sklearn"

    def prepare(self) -> None:
        """Imports scikit-learn. Raises LoadRefused where it is not installed."""
        try:
            import sklearn.base  # noqa: F401, PLC0415 - on demand
        except ImportError as exc:
            raise LoadRefused("scikit-learn is not installed: pip install 'mme[sklearn]'.") from exc
        # Versions were judged before loading, and payloads have no names: neither is worth a line.
        for known in ("Trying to unpickle estimator", "X does not have valid feature names"):
            warnings.filterwarnings("ignore", known, UserWarning)

    def load(self, directory: Path, trust: Trust) -> Model:
        """Loads the directory's estimator, whatever its file is called."""
        self.prepare()
        from loaders.sklearn_files import read_estimator  # noqa: PLC0415 - needs sklearn

        path = only_file(directory, SKLEARN_KINDS, NAMES)
        return SklearnModel(read_estimator(path, trust), path.stat().st_size)

    def load_native(self, directory: Path, trust: Trust) -> object:
        """Loads the estimator itself, as a script gets it that has no `model_fn`."""
        self.prepare()
        from loaders.sklearn_files import read_estimator  # noqa: PLC0415 - needs sklearn

        return read_estimator(only_file(directory, SKLEARN_KINDS, NAMES), trust)


class SklearnModel:
    """One estimator, asked to predict."""

    def __init__(self, estimator: Any, size_bytes: int) -> None:  # noqa: ANN401 - any with `predict`
        self._estimator = estimator
        self._size_bytes = size_bytes
        parts = list(_parts(estimator))
        self._is_threaded = any(getattr(part, "n_jobs", None) not in {None, 1} for part in parts)
        self._columns = _columns(estimator, parts)
        self.tensors = self._rows = RowPredictor(
            width=getattr(estimator, "n_features_in_", None),
            run=self._run,
            kind=np.float64,
            joins=all(map(_is_sklearns_own, parts)),
            decoders=NUMBERS_OR_TEXTS,
            absent=0.0,
        )

    def predict(self, payloads: Sequence[Payload]) -> list[Answer | ModelFault]:
        """Answers in the order of `payloads`."""
        return self._rows.predict(payloads)

    def nbytes(self) -> int:
        """The size of the file, near what the estimator takes unless it was compressed."""
        return self._size_bytes

    def close(self) -> None:
        """Drops the estimator."""
        self._estimator = None

    def _run(self, rows: Array) -> Array:
        from sklearn.exceptions import NotFittedError  # noqa: PLC0415 - loaded long ago

        table: Any = rows
        if self._columns is not None:
            from pandas import DataFrame  # noqa: PLC0415 - loaded long ago

            table = DataFrame(rows, columns=self._columns).infer_objects()
        try:
            with self._one_thread():
                return _as_array(self._estimator.predict(table))
        except _RAISED_BY_ESTIMATORS as exc:
            from loaders.sklearn_files import first_line  # noqa: PLC0415 - loaded long ago

            if isinstance(exc, ValueError) and not isinstance(exc, NotFittedError):
                raise BadPayload(f"Unable to evaluate payload provided: {first_line(exc)}") from exc
            raise PredictionRaised(f"scikit-learn could not predict: {first_line(exc)}") from exc

    def _one_thread(self) -> AbstractContextManager[Any]:
        if not self._is_threaded:
            return nullcontext()
        import joblib  # noqa: PLC0415 - comes with scikit-learn

        context: AbstractContextManager[Any] = joblib.parallel_config(backend="sequential")
        return context


def _parts(estimator: Any) -> Iterator[Any]:  # noqa: ANN401 - any with `predict`
    """The estimator, the estimators it is made of, and the functions they were given."""
    yield estimator
    if _is_sklearns_own(estimator) and hasattr(estimator, "get_params"):
        for part in estimator.get_params(deep=True).values():
            if not isinstance(part, type) and (hasattr(part, "get_params") or callable(part)):
                yield part


def _is_sklearns_own(part: object) -> bool:
    return type(part).__module__.startswith("sklearn.") or isinstance(part, np.ufunc)


def _columns(estimator: Any, parts: list[Any]) -> Array | None:  # noqa: ANN401 - any with `predict`
    """The names of the columns, where a part asks for some of them by name."""
    from sklearn.compose import ColumnTransformer  # noqa: PLC0415

    names: Array | None = getattr(estimator, "feature_names_in_", None)
    if names is None or not any(isinstance(part, ColumnTransformer) for part in parts):
        return None
    try:
        import pandas  # noqa: F401, PLC0415 - on demand
    except ImportError as exc:
        raise LoadRefused(
            "The model picks its columns by name, which needs pandas: put it into "
            "code/requirements.txt."
        ) from exc
    return names


def _as_array(answer: Any) -> Array:  # noqa: ANN401 - array, list, Series or sparse matrix
    if hasattr(answer, "toarray"):
        answer = answer.toarray()
    array: Array = np.asarray(answer)
    if array.dtype == object:  # labels that were objects: texts, mostly
        array = np.array(array.tolist())
    return array


LOADER = SklearnLoader()

"""XGBoost, served as SageMaker's image does; how answers are written, `xgboost_output.py` says.

Decisions: an answer is what `Booster.predict` gives, however the model was saved, so that a pickled
XGBClassifier answers the probabilities that the same model saved by `save_model` answers. An
infinite feature is refused, as XGBoost's DMatrix refuses it. A file beside the models that is
plainly no model is left alone; the image would fail on it.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec
import numpy as np

from loaders.codecs import Array
from loaders.contract import (
    Answer,
    BadPayload,
    LoadRefused,
    Model,
    ModelFault,
    NotCompilable,
    Payload,
    PredictionRaised,
    Trust,
    Twin,
)
from loaders.hot_rows import HotRows
from loaders.signatures import Signature
from loaders.sniff import XGBOOST_KINDS, sniff
from loaders.xgboost_kind import kind_of
from loaders.xgboost_scorers import FlatScorer, Member

if TYPE_CHECKING:
    from loaders.compiled_call import CompiledCall
    from loaders.kept_forests import KeptForests

_VOTING_OBJECTIVES = frozenset({"multi:softmax", "binary:hinge"})
_COMPILING_BYTES, _COMPILING_NODE_BYTES = 2 * 1024**2, 1024  # of memory, beside and for a node
_ENSEMBLE = "SAGEMAKER_INFERENCE_ENSEMBLE"  # the image's own switch


class XgboostLoader:
    """Loads boosters; several in one directory are an ensemble."""

    name = "xgboost"
    _kept: KeptForests | None = None

    def prepare(self) -> None:
        """Imports XGBoost. Raises LoadRefused where it is not installed."""
        try:
            import xgboost  # noqa: F401, PLC0415 - on demand
        except ImportError as exc:
            raise LoadRefused(
                "xgboost is not installed: pip install 'mme[xgboost]', or 'mme[xgboost-gpu]'."
            ) from exc

    def keep_in(self, directory: Path) -> None:
        """As Keeping: flat forests."""
        from loaders.kept_forests import KeptForests  # noqa: PLC0415 - numpy

        self._kept = KeptForests(directory)

    def can_keep(self, model: Model) -> bool:
        """As Keeping."""
        if self._kept is None or not isinstance(model, XgboostModel):
            return False
        return self._kept.can_keep(model.members)

    def keep(self, content: str, model: Model) -> bool:
        """As Keeping."""
        if self._kept is None or not isinstance(model, XgboostModel):
            return False
        return self._kept.keep(content, model.members)

    def load_kept(self, content: str) -> Model | None:
        """As Keeping."""
        members = self._kept.find(content) if self._kept is not None else None
        return XgboostModel(members) if members is not None else None

    def load(self, directory: Path, trust: Trust) -> Model:
        """Loads every model file at the directory's root."""
        self.prepare()
        from loaders.xgboost_files import read_member  # noqa: PLC0415 - needs xgboost

        paths = _model_files(directory)
        if os.environ.get(_ENSEMBLE, "true").lower() != "true":
            paths = paths[:1]
        members = [read_member(path, trust) for path in paths]
        if len({member.width for member in members}) > 1:
            raise LoadRefused("Unable to load model: the ensemble's models differ in features.")
        return XgboostModel(members, sum(path.stat().st_size for path in paths))

    def load_native(self, directory: Path, trust: Trust) -> object:
        """Loads the directory's only Booster, for a script that has no `model_fn`."""
        self.prepare()
        from loaders.xgboost_files import read_booster  # noqa: PLC0415 - needs xgboost

        paths = _model_files(directory)
        if len(paths) > 1:
            raise LoadRefused("Unable to load model: which of its files, a model_fn must say.")
        booster = read_booster(paths[0], trust)
        booster.set_param({"nthread": 1, "device": "cpu"})
        return booster


class XgboostModel:
    """One booster, or several whose answers are averaged or, for classes, put to the vote.

    One alone may be compiled; what is compiled answers in its place, and the original goes.
    """

    __slots__ = ("_hot", "_kind", "_size_bytes", "members")

    def __init__(self, members: Sequence[Member], size_bytes: int = 0) -> None:
        self.members = tuple(members)
        self._hot: HotRows | None = None  # None: its rows need not be counted
        self._size_bytes = size_bytes
        self._kind = kind_of(members[0])

    def predict(self, payloads: Sequence[Payload]) -> list[Answer | ModelFault]:
        """Answers in the order of `payloads`."""
        return self._kind.predict(self, payloads)

    @property
    def tensors(self) -> XgboostModel:
        """As TensorModel: itself."""
        return self

    def signature(self) -> Signature:
        """As Tensors."""
        return self._kind.signature

    def infer(self, feeds: Sequence[Mapping[str, Array]]) -> list[dict[str, Array] | ModelFault]:
        """As Tensors."""
        return self._kind.infer(self, feeds)

    def nbytes(self) -> int:
        """What the trees take; of XGBoost's own, about the size of the files."""
        sizes = [member.nbytes for member in self.members]
        return self._size_bytes if None in sizes else sum(size or 0 for size in sizes)

    def close(self) -> None:
        """Drops what answers."""
        self.members = ()
        self._hot = None

    def count_rows(self) -> None:
        """Counts from now on, if there is any chance of being compiled."""
        if len(self.members) == 1:
            self._hot = HotRows()

    def due_bytes(self) -> int:
        """What compiling may take for a moment; 0: it is not the time for that."""
        is_due = self._hot is not None and self._hot.is_due
        return _COMPILING_BYTES + _COMPILING_NODE_BYTES * self._nodes() if is_due else 0

    def postpone(self) -> None:
        """Due again after many more rows."""
        if self._hot is not None:
            self._hot.postpone()

    def compile(self) -> Twin:
        """Compiles, and compares answers. Raises NotCompilable; it is never due again then."""
        from loaders.xgboost_compiled import compile_member  # noqa: PLC0415 - needs xgboost

        hot, members = self._hot, self.members
        if hot is None or len(members) != 1:
            raise NotCompilable("it is not one booster")
        try:
            return compile_member(members[0], hot.table())
        except NotCompilable:
            self._hot = None
            raise

    def become(self, twin: Twin) -> threading.Event:
        """From the next prediction on the twin answers; set once the original's memory is free."""
        gone = threading.Event()
        [member] = self.members
        weakref.finalize(member.scorer, gone.set)
        self.members = (
            msgspec.structs.replace(member, scorer=cast("CompiledCall", twin)),
        )  # the switch
        self._hot = None
        return gone

    def _nodes(self) -> int:
        """Of a lone flat forest; 0: it is something else."""
        scorers = [member.scorer for member in self.members]
        lone = scorers[0] if len(scorers) == 1 else None
        return lone.forest.nodes if isinstance(lone, FlatScorer) else 0

    def run_one(self, numbers: list[float]) -> Array | None:
        """As `run` of one row of as many numbers as features; None where that has to be asked."""
        members = self.members
        if len(members) != 1:
            return None
        try:
            answer = members[0].scorer.one(numbers)
        except (OverflowError, ValueError, MemoryError):  # `run` says it in words
            return None
        if answer is not None and (hot := self._hot) is not None:
            hot.note([numbers])
        return answer

    def run(self, rows: Array) -> Array:
        """What `Booster.predict` gives. Raises ModelFault."""
        if np.isinf(rows).any():
            raise BadPayload(
                "Unable to evaluate payload provided: a feature is infinite or too large."
            )
        members = self.members
        try:
            answers = [member.scorer.predict(rows) for member in members]
        except (ValueError, TypeError, MemoryError) as exc:  # XGBoostError is a ValueError
            from loaders.xgboost_files import first_line  # noqa: PLC0415 - loaded long ago

            raise PredictionRaised(f"XGBoost could not predict: {first_line(exc)}") from exc
        if (hot := self._hot) is not None:
            hot.note(rows)
        if len(answers) == 1:
            return answers[0]
        if members[0].objective in _VOTING_OBJECTIVES:
            return _vote(np.stack(answers))
        mean: Array = np.mean(answers, axis=0)
        return mean


def _model_files(directory: Path) -> list[Path]:
    with os.scandir(directory) as found:
        names = sorted(
            entry.name for entry in found if entry.is_file() and not entry.name.startswith(".")
        )
    paths = [directory / name for name in names]
    if not paths:
        raise LoadRefused("Unable to load model: there is no file at the root of the archive.")
    if len(paths) == 1:
        return paths
    return [path for path in paths if sniff(path).startswith(XGBOOST_KINDS)] or paths


def _vote(answers: Array) -> Array:
    """Gives each row the answer most members gave; between equals the smallest, as scipy does."""
    ordered = np.sort(answers, axis=0)
    votes = (ordered[:, None] == ordered[None]).sum(axis=0)
    winner: Array = np.take_along_axis(ordered, votes.argmax(axis=0)[None], axis=0)[0]
    return winner


LOADER = XgboostLoader()

"""The ways to ask one XGBoost model: XGBoost itself, or its trees as a flat forest.

Decision: all give what `Booster.predict` would, so that a model may change its scorer while it
answers. gbtree alone is predicted in place: gblinear can't be, and dart's answer would differ from
`predict` in the last digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from loaders.codecs import Array
from loaders.forest import Forest
from loaders.xgboost_objectives import Transform

if TYPE_CHECKING:
    import xgboost

    from loaders.xgboost_call import DirectCall


class Scorer(Protocol):
    """Answers rows of as many features as the model has, in one thread at a time."""

    def predict(self, rows: Array) -> Array:
        """An answer a row, none of which has an infinite feature. Raises XGBoostError."""
        ...

    def one(self, numbers: Sequence[float]) -> Array | None:
        """As `predict` of this row alone; None where that has to be asked, or to say why not.

        Raises:
            OverflowError: a number is too large.
            XGBoostError: as XGBoost raises it.
        """
        ...

    def margins(self, rows: Array) -> Array:
        """The sums that answers are made of, a column an output."""
        ...


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One model of those that answer together."""

    width: int
    objective: str
    classes: int
    outputs: tuple[int, ...]  # the shape of an answer
    scorer: Scorer

    @property
    def nbytes(self) -> int | None:
        """What it holds, where that is known."""
        return self.scorer.forest.nbytes if isinstance(self.scorer, FlatScorer) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class BoosterScorer:
    """XGBoost itself."""

    booster: xgboost.Booster
    in_place: bool
    rounds: tuple[int, int]  # (0, 0): all of them
    missing: float
    direct: DirectCall | None  # the fastest way, where there is one

    def predict(self, rows: Array) -> Array:
        """As Scorer."""
        if self.direct is not None:
            return self.direct(rows)
        if self.in_place:
            result: Array = self.booster.inplace_predict(
                rows,
                iteration_range=self.rounds,
                missing=self.missing,
                validate_features=False,
            )
            return result
        from xgboost import DMatrix  # noqa: PLC0415 - loaded long ago

        types = self.booster.feature_types
        table = DMatrix(rows, missing=self.missing, nthread=1, feature_types=types)
        answer: Array = self.booster.predict(
            table, iteration_range=self.rounds, validate_features=False
        )
        return answer

    def one(self, numbers: Sequence[float]) -> Array | None:
        """As Scorer."""
        return None if self.direct is None else self.direct.one(numbers)

    def margins(self, rows: Array) -> Array:
        """As Scorer; of gbtree."""
        sums: Array = self.booster.inplace_predict(
            rows,
            iteration_range=self.rounds,
            missing=self.missing,
            predict_type="margin",
            validate_features=False,
        )
        return sums.reshape(len(rows), -1)


class FlatScorer:
    """A flat forest, without XGBoost; in any thread.

    Args:
        forest: the trees.
        transform: sums -> answers.
    """

    __slots__ = ("__weakref__", "forest", "transform")

    def __init__(self, forest: Forest, transform: Transform) -> None:
        self.forest = forest
        self.transform = transform

    def predict(self, rows: Array) -> Array:
        """As Scorer."""
        return self.transform.many(self.forest.sum_all(rows))

    def one(self, numbers: Sequence[float]) -> Array | None:
        """As Scorer; a row with a number that is infinite or none is not answered here."""
        sums = self.forest.sum_one(numbers)
        return None if sums is None else self.transform.one(sums)

    def margins(self, rows: Array) -> Array:
        """As Scorer."""
        return self.forest.sum_all(rows)

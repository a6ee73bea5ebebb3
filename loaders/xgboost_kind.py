"""What XGBoost models that are alike share: how rows are read and how answers are written.

Decision: a thousand tenants' models differ in their trees, and seldom in anything else. One reader
for all of a kind is a third of what a small model takes beside its trees, need not be made at each
load, and knows its clients' headers from the first request on. Which model is asked is known by
thread, for a call alone. Rejected: to tell every reader of rows which model it reads for.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

from loaders.codecs import Array
from loaders.contract import Answer, ModelFault, Payload
from loaders.rows import RowPredictor
from loaders.signatures import OUTPUT_NAME, TensorSpec
from loaders.xgboost_output import SELECTION, answer_encoders
from loaders.xgboost_scorers import Member

_KINDS_KEPT = 256
_LONE_FEATURES = 1_000  # beyond, an array is the faster way to take them in


class Asked(Protocol):
    """A model of some kind."""

    def run(self, rows: Array) -> Array:
        """An answer a row. Raises ModelFault."""
        ...

    def run_one(self, numbers: list[float]) -> Array | None:
        """As `run` of one row; None where that has to be asked."""
        ...


class Kind:
    """Asks any model of one width and objective; in any thread.

    Args:
        width: features.
        objective: e.g. "binary:logistic".
        classes: of a "multi:" objective.
        outputs: the shape of an answer.
    """

    def __init__(self, width: int, objective: str, classes: int, outputs: tuple[int, ...]) -> None:
        encoders = answer_encoders(objective, classes)
        self._here = threading.local()
        self._rows = RowPredictor(
            width=width,
            run=self._run,
            default_content="libsvm",
            default_accept=next(iter(encoders)),
            encoders=encoders,
            outputs=(TensorSpec(name=OUTPUT_NAME, datatype="FP32", shape=outputs),),
            one=self._run_one if width <= _LONE_FEATURES else None,
        )
        self.signature = self._rows.signature()

    def predict(self, asked: Asked, payloads: Sequence[Payload]) -> list[Answer | ModelFault]:
        """As RowPredictor."""
        self._here.asked = asked
        try:
            return self._rows.predict(payloads)
        finally:
            self._here.asked = None

    def infer(
        self, asked: Asked, feeds: Sequence[Mapping[str, Array]]
    ) -> list[dict[str, Array] | ModelFault]:
        """As RowPredictor."""
        self._here.asked = asked
        try:
            return self._rows.infer(feeds)
        finally:
            self._here.asked = None

    def _run(self, rows: Array) -> Array:
        asked: Asked = self._here.asked
        return asked.run(rows)

    def _run_one(self, numbers: list[float]) -> Array | None:
        asked: Asked = self._here.asked
        return asked.run_one(numbers)


def kind_of(member: Member) -> Kind:
    """The kind of a model whose first, or only, member this is."""
    selection = os.environ.get(SELECTION, "")  # what answers are made of
    return _kind(member.width, member.objective, member.classes, member.outputs, selection)


@functools.lru_cache(_KINDS_KEPT)
def _kind(
    width: int, objective: str, classes: int, outputs: tuple[int, ...], _selection: str
) -> Kind:
    return Kind(width, objective, classes, outputs)

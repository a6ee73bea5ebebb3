"""Models whose rows are independent: the payloads of a batch run as one table, then split again.

Decisions: a bad payload fails only itself. Where the joint run raises, each payload is run alone,
so that only the culprit fails. A lone payload takes the direct way and pays for none of it; where
a model has a way for one row (`one`), not even for an array.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import DTypeLike

from loaders.codecs import DECODERS, ENCODERS, Array, Decoder, Encoder, as_floats, decode
from loaders.content_types import Accept, choose_accept, read_content_type
from loaders.contract import (
    Answer,
    BadPayload,
    ModelFault,
    Payload,
    PredictionRaised,
    each,
    read_and_run,
    settle,
)
from loaders.lone_row import LoneReader
from loaders.payload_faults import feature_mismatch
from loaders.plain_rows import PlainReader
from loaders.signatures import (
    INPUT_NAME,
    OUTPUT_NAME,
    Signature,
    TensorSpec,
    datatype_of,
)
from loaders.sparse import Gaps

READABLE = ("csv", "libsvm", "json", "jsonlines", "npy", "recordio-protobuf")
_EMPTY = "Unable to evaluate payload provided: it is empty."


@dataclass(frozen=True, kw_only=True, slots=True)
class RowPredictor:
    """Everything around `run`: reading, joining, splitting and writing.

    Args:
        width: features the model was trained on; None where only the model can tell.
        run: rows of that width -> one output a row; raises ModelFault.
        kind: the type of number the model computes in.
        joins: whether an answer is the same whatever other rows are asked with it.
        decoders: format -> how this framework reads it; arrays of objects hold texts.
        default_content: the format of a body that came without a Content-Type.
        default_accept: the format of an answer nobody chose one for.
        encoders: format -> how this framework writes it.
        absent: what a feature is that a row in a sparse format does not mention.
        outputs: what `run` gives, where that is known.
        one: a row of as many numbers -> what `run` gives for it, or None where `run` has to say.
    """

    width: int | None
    run: Callable[[Array], Array]
    kind: DTypeLike = np.float32
    joins: bool = True
    decoders: Mapping[str, Decoder] = field(default_factory=lambda: DECODERS)
    default_content: str = "csv"
    default_accept: str = "json"
    encoders: Mapping[str, Encoder] = field(default_factory=lambda: ENCODERS)
    absent: float = np.nan
    outputs: tuple[TensorSpec, ...] = ()
    one: Callable[[list[float]], Array | None] | None = None
    _plain: PlainReader = field(init=False)
    _lone: LoneReader = field(init=False)

    def __post_init__(self) -> None:
        texts = self.decoders.get("csv") is not DECODERS["csv"]  # in whose csv 1 is a text
        numeric = tuple(name for name in READABLE if name != "csv" or not texts)
        for name, reader in (("_plain", PlainReader), ("_lone", LoneReader)):
            made = reader(
                readable=numeric if reader is LoneReader else READABLE,
                writable=tuple(self.encoders),
                default_content=self.default_content,
                default_accept=self.default_accept,
            )
            object.__setattr__(self, name, made)

    def predict(self, payloads: Sequence[Payload]) -> list[Answer | ModelFault]:
        """Answers in the order of `payloads`, each its own answer or fault."""
        answers = self._fast(payloads)
        if answers is not None:
            return answers
        return read_and_run(payloads, self._read, self._together)

    def signature(self) -> Signature:
        """One table of numbers, and what is known of the outputs."""
        shape = (-1, -1 if self.width is None else self.width)
        kind = datatype_of(np.dtype(self.kind))
        table = TensorSpec(name=INPUT_NAME, datatype=kind, shape=shape)
        return Signature(inputs=(table,), outputs=self.outputs)

    def infer(self, feeds: Sequence[Mapping[str, Array]]) -> list[dict[str, Array] | ModelFault]:
        """Runs the only tensor of each feed, whatever its name, as Tensors."""
        found = read_and_run(feeds, self._table, self._run_all)
        return [one if isinstance(one, ModelFault) else {OUTPUT_NAME: one} for one in found]

    def _table(self, feed: Mapping[str, Array]) -> Array:
        if len(feed) != 1:
            raise BadPayload(f"The model takes one input, a table of numbers; given: {len(feed)}.")
        [rows] = feed.values()
        if rows.dtype.kind not in "biuf" or rows.ndim not in {1, 2}:
            raise BadPayload("The model takes a table of numbers, of shape [rows, features].")
        rows = as_floats(rows.reshape(1, -1) if rows.ndim == 1 else rows, self.kind)
        if not rows.size:
            raise BadPayload(_EMPTY)
        if self.width is not None and rows.shape[1] != self.width:
            raise feature_mismatch("tensor", rows.shape[1], self.width)
        return rows

    def _fast(self, payloads: Sequence[Payload]) -> list[Answer | ModelFault] | None:
        if len(payloads) > 1:
            return self._at_once(payloads) if self.joins else None
        answer = self._one(payloads[0])
        return self._at_once(payloads) if answer is None else [answer]

    def _one(self, payload: Payload) -> Answer | ModelFault | None:
        """The shortest way, of a lone plain row; None where it is not that."""
        found = self._lone.read(payload)
        if found is None or not found[0] or self.width not in {None, len(found[0])}:
            return None
        numbers, accept = found
        try:
            outputs = None if self.one is None else self.one(numbers)
            if outputs is None:
                outputs = self._run(as_floats(np.array([numbers]), self.kind))
            return self._write(outputs, accept)
        except ModelFault as fault:
            return fault

    def _at_once(self, payloads: Sequence[Payload]) -> list[Answer | ModelFault] | None:
        """The fast way of a batch that is read, run and written without a fault, or None."""
        plain = self._plain.read(payloads)
        if plain is None or self.width not in {None, plain.table.shape[1]}:
            return None
        if plain.format == "csv" and self.decoders["csv"] is not DECODERS["csv"]:
            return None  # in which 1 is a text
        try:
            outputs = self._run(as_floats(plain.table, self.kind))
            wanted = zip(plain.parts(), plain.accepts, strict=True)
            return [self._write(outputs[part], accept) for part, accept in wanted]
        except ModelFault:
            return None  # whose it is, the slow way finds out

    def _together(self, ready: list[tuple[Array, Accept]]) -> list[Answer | ModelFault]:
        found = zip(self._run_all([rows for rows, _ in ready]), ready, strict=True)
        return [
            one if isinstance(one, ModelFault) else settle(self._write, one, accept)
            for one, (_, accept) in found
        ]

    def _run_all(self, tables: list[Array]) -> Sequence[Array | ModelFault]:
        """What each table gets: all run as one, or each alone where they can't be."""
        if len(tables) == 1 or not self.joins:
            return each(tables, self._run)
        try:
            outputs = self._run(_joined(tables))
        except ModelFault:  # whose it is, each alone finds out
            return each(tables, self._run)
        return np.split(outputs, np.cumsum([len(table) for table in tables[:-1]]))

    def _run(self, rows: Array) -> Array:
        outputs = self.run(rows)
        if len(outputs) != len(rows):
            raise PredictionRaised(f"The model gave {len(outputs)} outputs for {len(rows)} rows.")
        return outputs

    def _write(self, outputs: Array, accept: Accept) -> Answer:
        return Answer(self.encoders[accept.name](outputs), accept.content_type)

    def _read(self, payload: Payload) -> tuple[Array, Accept]:
        """The payload's rows, of the right width and at least one, and how to answer."""
        if not payload.body or payload.body.isspace():
            raise BadPayload(_EMPTY)
        content_type = read_content_type(payload.content_type, READABLE, self.default_content)
        gaps = Gaps(width=self.width, absent=self.absent)
        rows = decode(payload.body, content_type, gaps, self.decoders)
        texts = rows.dtype == object
        if not texts:
            rows = as_floats(rows, self.kind)
        if rows.ndim < 2 and not (texts and self.width is None):  # noqa: PLR2004 - a lone list is one row
            rows = rows.reshape(1, -1)
        if rows.ndim > 2:  # noqa: PLR2004 - a table has two
            raise BadPayload(f"Unable to evaluate payload provided: {rows.ndim} dimensions, not 2.")
        if not rows.size:
            raise BadPayload(_EMPTY)
        if self.width is not None and rows.shape[1] != self.width:
            raise feature_mismatch(content_type.name, rows.shape[1], self.width)
        return rows, choose_accept(payload.accept, tuple(self.encoders), self.default_accept)


def _joined(tables: list[Array]) -> Array:
    """One table of all; raises ModelFault where they do not fit together."""
    if len({(table.dtype, table.shape[1:]) for table in tables}) > 1:
        raise BadPayload("The payloads differ in shape or type.")  # each is then run alone
    return np.concatenate(tables)

"""Models of named arrays: reading, running and writing, and where rows are independent, together.

Decisions: payloads are joined only where the model says that every input and output has the same
free first dimension; a bad payload fails only itself, and where a joint run fails or does not give
a row for a row, each payload is run alone. Plain rows of numbers for the only input are read at
once, whether they are run together or not, and a lone one without the way there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import numpy as np

from loaders.codecs import Array
from loaders.content_types import Accept, ContentType, choose_accept
from loaders.contract import Answer, BadPayload, ModelFault, Payload, each, read_and_run, settle
from loaders.input_specs import Feed, InputSpec, check_shape, typed
from loaders.lone_row import LoneReader
from loaders.named_inputs import Request, main_input, read_inputs
from loaders.named_outputs import NAMED, TABULAR, Outputs, write_outputs
from loaders.plain_rows import PlainReader
from loaders.signatures import ANY_SHAPE, Signature, TensorSpec, datatype_of

Asked = tuple[Request, Accept]
_TABLE = 2  # dimensions
_LONE = ContentType(name="csv")
_TABULAR, _NAMED = (
    PlainReader(
        readable=("csv", "json", "npy"),
        writable=formats,
        default_content="json",
        default_accept="json",
    )
    for formats in (TABULAR, NAMED)
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorPredictor:
    """Everything around `run`.

    Args:
        specs: the model's inputs; at least one.
        run: arrays by input -> arrays by output; raises ModelFault.
        independent: rows may be run together with other payloads' rows.
        joint: how they are, where that is not `run`; it raises ModelFault where they may not.
        tabular: there may be one output, an array, so that formats without names can be written.
        enveloped: JSON is answered as TensorFlow Serving does.
        outputs: what `run` gives, where that is known.
    """

    specs: Sequence[InputSpec]
    run: Callable[[Feed], Outputs]
    independent: bool = False
    joint: Callable[[Feed], Outputs] | None = None
    tabular: bool = True
    enveloped: bool = False
    outputs: tuple[TensorSpec, ...] = ()
    _main: InputSpec | None = field(init=False)  # the only input, where that is a plain table
    _lone: LoneReader = field(init=False)

    def __post_init__(self) -> None:
        main = main_input(self.specs)
        object.__setattr__(self, "_main", main if main is not None and main.plain else None)
        lone = LoneReader(
            readable=("csv", "json"),
            writable=TABULAR if self.tabular else NAMED,
            default_content="json",
            default_accept="json",
        )
        object.__setattr__(self, "_lone", lone)

    def predict(self, payloads: Sequence[Payload]) -> list[Answer | ModelFault]:
        """Answers in the order of `payloads`, each its own answer or fault."""
        if len(payloads) == 1 and self._main is not None:
            answer = self._one(payloads[0], self._main)
            if answer is not None:
                return [answer]
        return self._predict(payloads)

    def _predict(self, payloads: Sequence[Payload]) -> list[Answer | ModelFault]:
        plain = self._read_plain(payloads)
        if plain is not None:
            return self._together(*plain)
        return read_and_run(payloads, self._read, self._together)

    def signature(self) -> Signature:
        """What the model declares."""
        inputs = tuple(
            TensorSpec(name=spec.name, datatype=datatype_of(spec.dtype), shape=_sizes(spec))
            for spec in self.specs
        )
        return Signature(inputs=inputs, outputs=self.outputs)

    def infer(self, feeds: Sequence[Mapping[str, Array]]) -> list[Outputs | ModelFault]:
        """Runs the model on arrays by name, as Tensors."""
        return read_and_run(feeds, self._taken, self._run_all)

    def _taken(self, feed: Mapping[str, Array]) -> Feed:
        required = {spec.name for spec in self.specs if not spec.optional}
        if not required <= set(feed) <= {spec.name for spec in self.specs}:
            wanted = ", ".join(spec.name for spec in self.specs)[:200]
            given = ", ".join(feed)[:200]
            raise BadPayload(f"The model's inputs are {wanted}; given: {given}.")
        return {s.name: _taken(feed[s.name], s) for s in self.specs if s.name in feed}

    def _one(self, payload: Payload, main: InputSpec) -> Answer | ModelFault | None:
        """The shortest way, of one plain row; None where it is not that."""
        found = self._lone.read(payload)
        if found is None or not found[0]:
            return None
        row = np.array([found[0]])
        if main.dtype is not None:
            row = typed(row, main)
        try:
            check_shape(row, main, _LONE)
        except ModelFault:
            return None  # the slow way says it in words
        return settle(self._answer, Request(feed={main.name: row}), found[1])

    def _answer(self, request: Request, accept: Accept) -> Answer:
        return self._write(self.run(request.feed), request, accept)

    def _read_plain(self, payloads: Sequence[Payload]) -> tuple[list[Asked], Feed] | None:
        """Each payload's rows, and all in one, where they are a table for the only input."""
        main = self._main
        if main is None:
            return None
        plain = (_TABULAR if self.tabular else _NAMED).read(payloads)
        if plain is None:
            return None
        try:
            table = typed(plain.table, main)
            check_shape(table, main, ContentType(name=plain.format))
        except ModelFault:
            return None  # whose it is, the slow way finds out
        requests = [Request(feed={main.name: table[part]}) for part in plain.parts()]
        return list(zip(requests, plain.accepts, strict=True)), {main.name: table}

    def _together(self, ready: list[Asked], whole: Feed | None = None) -> list[Answer | ModelFault]:
        found = self._run_all([request.feed for request, _ in ready], whole)
        return [
            one if isinstance(one, ModelFault) else settle(self._write, one, *pair)
            for one, pair in zip(found, ready, strict=True)
        ]

    def _run_all(
        self, feeds: list[Feed], whole: Feed | None = None
    ) -> Sequence[Outputs | ModelFault]:
        """What each feed gets: all run as one, or each alone where they can't be."""
        joined = self.independent and len(feeds) > 1
        joint = self._joint_run(feeds, whole) if joined else None
        return joint or each(feeds, self.run)

    def _joint_run(self, feeds: list[Feed], whole: Feed | None) -> list[Outputs] | None:
        """Gives each feed's part of a run of all, or None where they have to be run alone."""
        try:
            outputs = (self.joint or self.run)(whole or self._joined(feeds))
        except ModelFault:
            return None
        ends = list(accumulate(len(next(iter(feed.values()))) for feed in feeds))
        if any(array.ndim == 0 or len(array) != ends[-1] for array in outputs.values()):
            return None
        return [
            {name: array[start:end] for name, array in outputs.items()}
            for start, end in pairwise((0, *ends))
        ]

    def _joined(self, feeds: list[Feed]) -> Feed:
        """All feeds in one. Raises BadPayload where they are not rows of one kind."""
        given = [
            (spec, feed[spec.name]) for feed in feeds for spec in self.specs if spec.name in feed
        ]
        if not all(_has_free_rows(spec, array) for spec, array in given):
            raise BadPayload("The payloads have no rows to join.")  # each is then run alone
        counts = [{len(array) for array in feed.values()} for feed in feeds]
        kinds = [
            {name: (array.dtype, array.shape[1:]) for name, array in feed.items()} for feed in feeds
        ]
        if any(len(count) > 1 for count in counts) or any(kind != kinds[0] for kind in kinds):
            raise BadPayload("The payloads differ in shape or type.")
        return {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}

    def _read(self, payload: Payload) -> tuple[Request, Accept]:
        request = read_inputs(payload, self.specs)
        return request, choose_accept(payload.accept, TABULAR if self.tabular else NAMED, "json")

    def _write(self, outputs: Outputs, request: Request, accept: Accept) -> Answer:
        envelope = "outputs" if request.by_input else "predictions"
        return write_outputs(outputs, accept, envelope if self.enveloped else None)


def _has_free_rows(spec: InputSpec, array: Array) -> bool:
    if spec.shape is None:
        return array.ndim >= _TABLE  # what has one dimension may be one row
    return bool(spec.shape) and spec.shape[0] is None


def _taken(array: Array, spec: InputSpec) -> Array:
    try:
        found = typed(array, spec)
    except (ValueError, TypeError, OverflowError) as exc:
        raise BadPayload(f"Input {spec.name} can't be read as {datatype_of(spec.dtype)}.") from exc
    check_shape(found, spec, ContentType(name="tensor"))
    return found


def _sizes(spec: InputSpec) -> tuple[int, ...]:
    if spec.shape is None:
        return ANY_SHAPE
    return tuple(-1 if size is None else size for size in spec.shape)

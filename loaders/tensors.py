"""Models of named arrays: reading, running and writing, and where rows are independent, together.

Decisions: payloads are joined only where the model says that every input and output has the same
free first dimension; a bad payload fails only itself, and where a joint run fails or does not give
a row for a row, each payload is run alone. A lone payload takes the direct way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from loaders.content_types import Accept, choose_accept
from loaders.contract import Answer, ModelFault, Payload, PredictionRaised, each
from loaders.input_specs import Feed, InputSpec
from loaders.named_inputs import Request, read_inputs
from loaders.named_outputs import NAMED, TABULAR, Outputs, write_outputs


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorPredictor:
    """Everything around `run`.

    Args:
        specs: the model's inputs; at least one.
        run: arrays by input -> arrays by output; raises ModelFault.
        independent: rows may be run together with other payloads' rows.
        tabular: there may be one output, an array, so that formats without names can be written.
        enveloped: JSON is answered as TensorFlow Serving does.
    """

    specs: Sequence[InputSpec]
    run: Callable[[Feed], Outputs]
    independent: bool = False
    tabular: bool = True
    enveloped: bool = False

    def predict(self, payloads: Sequence[Payload]) -> list[Answer | ModelFault]:
        """Answers in the order of `payloads`, each its own answer or fault."""
        if len(payloads) == 1 or not self.independent:
            return each(payloads, self._alone)
        results: list[Answer | ModelFault] = []
        ready: dict[int, tuple[Request, Accept]] = {}
        for position, payload in enumerate(payloads):
            try:
                ready[position] = self._read(payload)
                results.append(PredictionRaised("not run"))  # replaced below
            except ModelFault as fault:
                results.append(fault)
        if ready:
            for position, result in zip(ready, self._together(list(ready.values())), strict=True):
                results[position] = result
        return results

    def _alone(self, payload: Payload) -> Answer:
        request, accept = self._read(payload)
        return self._write(self.run(request.feed), request, accept)

    def _together(self, ready: list[tuple[Request, Accept]]) -> list[Answer | ModelFault]:
        joint = self._joint_run([request.feed for request, _ in ready])
        parts: Sequence[Outputs | None] = joint or [None] * len(ready)
        return [self._settle(*pair, part) for pair, part in zip(ready, parts, strict=True)]

    def _joint_run(self, feeds: list[Feed]) -> list[Outputs] | None:
        """Gives each feed's part of a run of all, or None where they have to be run alone."""
        counts = [{len(array) for array in feed.values()} for feed in feeds]
        shapes = [{name: array.shape[1:] for name, array in feed.items()} for feed in feeds]
        if any(len(count) > 1 for count in counts) or any(shape != shapes[0] for shape in shapes):
            return None
        try:
            outputs = self.run({n: np.concatenate([feed[n] for feed in feeds]) for n in feeds[0]})
        except ModelFault:
            return None
        ends = np.cumsum([count.pop() for count in counts])
        if any(array.ndim == 0 or len(array) != ends[-1] for array in outputs.values()):
            return None
        split = [np.split(array, ends[:-1]) for array in outputs.values()]
        return [dict(zip(outputs, parts, strict=True)) for parts in zip(*split, strict=True)]

    def _settle(
        self, request: Request, accept: Accept, outputs: Outputs | None
    ) -> Answer | ModelFault:
        try:
            found = self.run(request.feed) if outputs is None else outputs
            return self._write(found, request, accept)
        except ModelFault as fault:
            return fault

    def _read(self, payload: Payload) -> tuple[Request, Accept]:
        request = read_inputs(payload, self.specs)
        return request, choose_accept(payload.accept, TABULAR if self.tabular else NAMED, "json")

    def _write(self, outputs: Outputs, request: Request, accept: Accept) -> Answer:
        envelope = "outputs" if request.by_input else "predictions"
        return write_outputs(outputs, accept, envelope if self.enveloped else None)

"""A model's own script: SageMaker's `inference.py`, with the defaults for what it leaves out.

Decisions: a script is asked one payload at a time, unless it says that rows are independent: then
`predict_fn` gets those of a batch together, and each request's alone where that fails. Whatever it
raises, even SystemExit, is the answer to that request: with the status and message that it carries,
else 500 with `TypeName: message`; the traceback goes to the model's own log. While loading, it is
why the model can't be loaded.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from loaders.contract import (
    Answer,
    LoadRefused,
    Model,
    ModelFault,
    NativeLoader,
    Payload,
    PredictionRaised,
    ScriptFault,
    Trust,
    each,
    read_and_run,
    settle,
)
from loaders.find import find_framework
from loaders.script_answers import ERRORS, as_answer, asked_accept, body_for_script
from loaders.script_batch import join, part
from loaders.script_context import Context
from loaders.script_defaults import default_input, default_output, default_predict, memory_bytes
from loaders.script_doors import open_doors
from loaders.script_files import Script
from loaders.script_handlers import Handlers, read_handlers
from loaders.script_modules import ScriptSpace

_T = TypeVar("_T")
_OUT_OF_MEMORY = 507
_MESSAGE_CHARACTERS = 1_000


class ScriptLoader:
    """Loads the model of one archive through its script.

    Args:
        script: where its code is.
        root: of the model, where a framework may find what the script does not load itself.
    """

    name = "script"

    def __init__(self, script: Script, root: Path) -> None:
        self._script = script
        self._root = root

    def prepare(self) -> None:
        """Imports the frameworks that it will need, which are then not charged to its model."""
        with suppress(LoadRefused):  # the script may do without; if not, loading it will tell
            find_framework(self._root).loader.prepare()
        for name in self._script.frameworks():
            with suppress(ImportError):
                __import__(name)

    def load(self, directory: Path, trust: Trust) -> Model:
        """Runs the script and its `model_fn`."""
        if not trust.code:
            raise LoadRefused(
                f"Unable to load model: it brings a script ({self._script.entry.name}), which is "
                "code, and only data is trusted here."
            )
        open_doors()
        space = ScriptSpace(directory, self._script.search, self._script.entry.stem)
        try:
            module = _step(space, self._script.entry.name, space.run_entry)
            return _load(space, read_handlers(module), directory, trust)
        except BaseException:
            space.close()
            raise


def _load(space: ScriptSpace, handlers: Handlers, directory: Path, trust: Trust) -> Model:
    context = Context(directory)
    folder = str(directory)
    if (before := handlers.pre_model_fn) is not None:
        _step(space, "pre_model_fn", lambda: before(folder, context))
    if (load := handlers.model_fn) is not None:
        model = _step(space, "model_fn", lambda: load(folder, context))
    else:
        model = _step(space, "the default model_fn", lambda: _load_native(directory, trust))
    if (warm_up := handlers.model_warmup_fn) is not None:
        _step(space, "model_warmup_fn", lambda: warm_up(folder, model, context))
    return ScriptModel(space, handlers, directory, model)


def _load_native(directory: Path, trust: Trust) -> object:
    try:
        loader = find_framework(directory).loader
    except LoadRefused as exc:
        raise LoadRefused(f"Unable to load model: its script has no model_fn. {exc}") from exc
    if not isinstance(loader, NativeLoader):
        raise LoadRefused(
            f"Unable to load model: its script has no model_fn, and {loader.name} has no default."
        )
    return loader.load_native(directory, trust)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    """One request, and what `input_fn` made of it."""

    payload: Payload
    context: Context
    data: Any


class ScriptModel:
    """What `model_fn` gave, and the functions around it."""

    def __init__(
        self, space: ScriptSpace, handlers: Handlers, directory: Path, model: object
    ) -> None:
        self._space = space
        self._handlers: Handlers | None = handlers
        self._directory = directory
        self._model = model

    def predict(self, payloads: Sequence[Payload]) -> list[Answer | ModelFault]:
        """Answers in the order of `payloads`, one by one where nothing says that they may join."""
        handlers = self._handlers
        if len(payloads) > 1 and handlers and handlers.rows_independent:
            return read_and_run(payloads, partial(self._guarded, self._read), self._together)
        return each(payloads, partial(self._guarded, self._answer))

    def nbytes(self) -> int:
        """Bytes of a torch module; of what else a script has made nobody can tell."""
        return memory_bytes(self._model)

    def close(self) -> None:
        """Drops the model and the script's modules."""
        self._model = None
        self._handlers = None
        self._space.close()

    def _guarded(self, call: Callable[..., _T], *arguments: Any) -> _T:  # noqa: ANN401 - a call's
        """What it gives; all that the script raises is a ModelFault."""
        try:
            with self._space.active():
                return call(*arguments)
        except ModelFault:
            raise
        except BaseException as error:
            raise _fault(error, self._space) from error

    def _answer(self, payload: Payload) -> Answer:
        handlers = self._open()
        if handlers.transform_fn:
            context, accept = Context(self._directory, payload), asked_accept(payload)
            asked = (self._model, *body_for_script(payload), accept, context)
            return as_answer(handlers.transform_fn(*asked), accept, context)
        return self._alone(self._read(payload))

    def _together(self, asked: Sequence[_Read]) -> list[Answer | ModelFault]:
        """Predicts all rows at once; each request's alone where that can't be."""
        parts = [read.data for read in asked]
        outputs = settle(self._guarded, self._predict_joined, parts) if len(parts) > 1 else None
        if outputs is None or isinstance(outputs, ModelFault):
            return each(asked, partial(self._guarded, self._alone))
        return [
            settle(self._guarded, self._write, output, read)
            for output, read in zip(outputs, asked, strict=True)
        ]

    def _predict_joined(self, parts: Sequence[Any]) -> list[Any] | None:
        joined = join(parts)
        return None if joined is None else part(self._predict(joined, None), parts)

    def _alone(self, read: _Read) -> Answer:
        return self._write(self._predict(read.data, read.context), read)

    def _read(self, payload: Payload) -> _Read:
        handlers, context = self._open(), Context(self._directory, payload)
        if handlers.input_fn:
            data = handlers.input_fn(*body_for_script(payload), context)
        else:
            data = default_input(payload, self._model)
        return _Read(payload=payload, context=context, data=data)

    def _predict(self, data: Any, context: Context | None) -> Any:  # noqa: ANN401 - the script's own
        handlers = self._open()
        if handlers.predict_fn:
            return handlers.predict_fn(data, self._model, context or Context(self._directory))
        return default_predict(data, self._model)

    def _write(self, output: Any, read: _Read) -> Answer:  # noqa: ANN401 - the script's own
        handlers, context, accept = self._open(), read.context, asked_accept(read.payload)
        if handlers.output_fn:
            return as_answer(handlers.output_fn(output, accept, context), accept, context)
        return as_answer(default_output(output, read.payload.accept), accept, context)

    def _open(self) -> Handlers:
        if self._handlers is None:
            raise PredictionRaised("The model has been closed.")
        return self._handlers


def _step(space: ScriptSpace, name: str, call: Callable[[], _T]) -> _T:
    """Runs one step of loading; what it raises is why the model can't be loaded."""
    try:
        with space.active():
            return call()
    except ModelFault:
        raise
    except BaseException as error:
        fault = _fault(error, space)
        raise LoadRefused(f"Unable to load model: {name} raised {fault}") from error


def _fault(error: BaseException, space: ScriptSpace) -> ScriptFault:
    if isinstance(error, MemoryError):
        return ScriptFault("The worker is out of memory.", _OUT_OF_MEMORY)
    for attribute in ("status_code", "status"):
        status = getattr(error, attribute, None)
        if isinstance(status, int) and status in ERRORS:
            message = str(getattr(error, "message", "") or error) or type(error).__name__
            return ScriptFault(_fit(message, space), int(status))
    trace = error.__traceback__
    while trace is not None and not space.is_called_by(trace.tb_frame.f_globals):
        trace = trace.tb_next  # our own frames tell its author nothing
    traceback.print_exception(type(error), error, trace or error.__traceback__, file=sys.stderr)
    return ScriptFault(_fit(f"{type(error).__name__}: {error}", space))


def _fit(message: str, space: ScriptSpace) -> str:
    """A message as short as may go to a client, and such that it can be sent."""
    return space.plain(message)[:_MESSAGE_CHARACTERS].encode(errors="replace").decode()

"""What every loader is: a directory in, a model out; payloads in, answers or errors out.

Decision: a model predicts a *batch of payloads*, one answer each, in order; a lone request is a
batch of one. So a loader whose rows are independent may run them together, and one bad payload
fails only itself. Rejected: a second method for batches, which every caller would have to know
about. A payload and its answer are msgspec's structures, made in a seventh of a dataclass's time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import msgspec

_Asked = TypeVar("_Asked")
_Read = TypeVar("_Read")
_Found = TypeVar("_Found")


class Payload(msgspec.Struct, frozen=True):
    """One request's body with the types as the client sent them, None where absent."""

    body: bytes
    content_type: str | None = None
    accept: str | None = None
    custom_attributes: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """One request's reply."""

    body: bytes
    content_type: str
    custom_attributes: str | None = None


class ModelFault(Exception):
    """Base of what a loader or model raises on purpose; the message is fit for the client.

    `status` is what a SageMaker container would answer with.
    """

    status: int = 500


class UnsupportedContentType(ModelFault):
    """The body's type is not one this model reads, or it could not be read as that type."""

    status = 415


class UnsupportedAccept(ModelFault):
    """None of the accepted types is one this model writes."""

    status = 406


class BadPayload(ModelFault):
    """Readable, but not what this model takes: number of features, shape, empty."""

    status = 400


class LoadRefused(ModelFault):
    """Can't be loaded: unrecognised, corrupt, needs more trust or a framework not installed."""


class NotCompilable(ModelFault):
    """Compiled, it would not surely answer the same."""


class PredictionRaised(ModelFault):
    """The framework raised while predicting."""


class ScriptFault(ModelFault):
    """A model's own script raised; it may have said which status to answer with."""

    def __init__(self, message: str, status: int = ModelFault.status) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Trust:
    """What loading may do. `code` False refuses all that runs the artifact's own code."""

    code: bool = True


class Model(Protocol):
    """One loaded model. Called from one thread at a time."""

    def predict(self, payloads: Sequence[Payload]) -> list[Answer | ModelFault]:
        """Answers in the order of `payloads`, each its own answer or fault.

        Raises only what it did not expect.
        """
        ...

    def nbytes(self) -> int:
        """The loader's own estimate of the memory it holds, in bytes; 0 where it can't tell."""
        ...

    def close(self) -> None:
        """Drops everything that holds memory. The model is not used afterwards."""
        ...


class Twin(Protocol):
    """What a model is compiled to."""

    @property
    def nbytes(self) -> int:
        """An estimate of the memory it holds, in bytes."""
        ...


@runtime_checkable
class Compilable(Protocol):
    """A model that can be compiled to what answers the same, faster. All but `predict`: any thread.

    It counts the rows it answers once it was told to, and asks to be compiled after enough of them.
    """

    def count_rows(self) -> None:
        """Count from now on, if there is any chance of being compiled."""
        ...

    def due_bytes(self) -> int:
        """What compiling may take for a moment, in bytes; 0: it is not the time for that."""
        ...

    def postpone(self) -> None:
        """There was no room now; due again after many more rows."""
        ...

    def compile(self) -> Twin:
        """Compiles, and compares answers. Raises NotCompilable; it is never due again then."""
        ...

    def become(self, twin: Twin) -> threading.Event:
        """From the next prediction on the twin answers; set once the original's memory is free."""
        ...


class Loader(Protocol):
    """One framework's loader: a module-level object, cheap to import.

    Its framework is imported by `prepare`.
    """

    name: str  # e.g. "xgboost"

    def prepare(self) -> None:
        """Imports the framework. Raises LoadRefused naming the extra to install if missing."""
        ...

    def load(self, directory: Path, trust: Trust) -> Model:
        """Loads the artifact extracted at `directory`. Raises LoadRefused."""
        ...


@runtime_checkable
class Keeping(Protocol):
    """A loader that keeps what makes a model that was unloaded cheap to load again."""

    def keep_in(self, directory: Path) -> None:
        """From now on it does, in a directory of this process's own. After `prepare`."""
        ...

    def can_keep(self, model: Model) -> bool:
        """Whether a model of its own, as it is now, is one that it keeps."""
        ...

    def keep(self, content: str, model: Model) -> bool:
        """Keeps a model of its own before it is closed, if it can; `content` names its files.

        Whether it is kept: then what it holds is a few large blocks, which malloc gives to no
        thread alone when they are freed.
        """
        ...

    def load_kept(self, content: str) -> Model | None:
        """Loads what was kept under that name; None: the files have to be loaded."""
        ...


@runtime_checkable
class NativeLoader(Protocol):
    """A loader that can give the framework's own object, as a script's default `model_fn` does."""

    def load_native(self, directory: Path, trust: Trust) -> object:
        """Loads what the artifact holds, for the script to predict with. Raises LoadRefused."""
        ...


def settle(call: Callable[..., _Found], *arguments: Any) -> _Found | ModelFault:  # noqa: ANN401
    """What a call gives, or the fault that it raises."""
    try:
        return call(*arguments)
    except ModelFault as fault:
        return fault


def each(asked: Sequence[_Asked], answer: Callable[[_Asked], _Found]) -> list[_Found | ModelFault]:
    """Answers one by one: what a model does whose rows are not known to be independent."""
    return [settle(answer, one) for one in asked]


def read_and_run(
    asked: Sequence[_Asked],
    read: Callable[[_Asked], _Read],
    run: Callable[[list[_Read]], Sequence[_Found | ModelFault]],
) -> list[_Found | ModelFault]:
    """Reads each, and runs together what could be read; who could not be read fails alone."""
    found = each(asked, read)
    ready = [one for one in found if not isinstance(one, ModelFault)]
    answers = iter(run(ready) if ready else ())
    return [one if isinstance(one, ModelFault) else next(answers) for one in found]

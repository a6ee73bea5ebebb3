"""Compiling the hot models of a worker, and what that does to its memory.

Decision: the loading thread waits while a thread of low priority compiles, so that nothing is
loaded or unloaded meanwhile, and what the process grows by is the compiled model's. The original
leaves as unloaded models do: what it does not give back is lost, and charged to nobody.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mme.workers import memory
from mme.workers.load_watch import LoadWatch, Taken
from mme.workers.losses import Losses
from mme.workers.protocol import NO_ROOM_STATUS, CallFailed, Compile, Faulted, Loaded

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_NICENESS = 10
_FRAMEWORK = "onnxruntime"  # that scores it
_GONE_SECONDS = 10.0  # for a prediction that began before
_NO_FILES = Path(os.devnull)


class Twin(Protocol):
    """As loaders have it."""

    @property
    def nbytes(self) -> int: ...  # noqa: D102


class Compilable(Protocol):
    """As loaders have it."""

    def count_rows(self) -> None: ...  # noqa: D102

    def due_bytes(self) -> int: ...  # noqa: D102

    def postpone(self) -> None: ...  # noqa: D102

    def compile(self) -> Twin: ...  # noqa: D102

    def become(self, twin: Twin) -> threading.Event: ...  # noqa: D102


class Compiling:
    """The models of this process that may be compiled."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._models: dict[str, Compilable] = {}
        self._is_rehearsed = False

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - half a megabyte

        return ThreadPoolExecutor(1, "compile", initializer=_let_others_go_first)

    def came(self, key: str, model: Compilable) -> None:
        """A model was loaded."""
        model.count_rows()
        self._models[key] = model

    def went(self, key: str) -> None:
        """A model is unloaded, one of these or another."""
        self._models.pop(key, None)

    def due(self) -> dict[str, int]:
        """Who is hot, and the bytes that compiling it may take for a moment. In any thread."""
        asked = ((key, model.due_bytes()) for key, model in tuple(self._models.items()))
        return {key: due_bytes for key, due_bytes in asked if due_bytes}

    def compile(self, message: Compile) -> Loaded | CallFailed:
        """Compiles and measures; the model has become what was compiled, unless that is too much.

        Raises what the model raises; the model is what it was then.
        """
        started, model = time.perf_counter(), self._models[message.model]
        if not self._is_rehearsed:  # what is set up on first use is no model's own
            self._thread.submit(_rehearse, model).result()
            self._is_rehearsed = True
        done = self._thread.submit(_compile, model, message.room_bytes).result()
        if done is None:
            model.postpone()
            memory.give_back()
            return CallFailed(message.call, Faulted(NO_ROOM_STATUS, "There is no room for it."))
        taken, returned_bytes = done
        self._losses.went([message.model], returned_bytes=returned_bytes)
        self._losses.came(
            message.model, charged_bytes=taken.resident_bytes, grown_bytes=taken.grown_bytes
        )
        return Loaded(
            call=message.call,
            resident_bytes=taken.resident_bytes,
            peak_bytes=taken.peak_bytes,
            file_bytes=0,
            seconds=time.perf_counter() - started,
            framework=_FRAMEWORK,
        )


def _compile(model: Compilable, room_bytes: int) -> tuple[Taken, int] | None:
    """What the compiled model takes, and what the process gave back of the original."""
    watch = LoadWatch(_NO_FILES)
    try:
        twin = model.compile()
        taken = watch.read(twin.nbytes)
    finally:
        watch.close()
    if taken.resident_bytes > room_bytes:
        return None
    before_bytes = memory.private_bytes()
    model.become(twin).wait(_GONE_SECONDS)
    memory.give_back()
    return taken, before_bytes - memory.private_bytes()


def _rehearse(model: Compilable) -> None:
    model.compile()
    memory.give_back()


def _let_others_go_first() -> None:
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)  # of this thread

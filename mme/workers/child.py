"""The inside of a worker: loads models and predicts with them.

Nobody imports this; it alone sees `loaders`. Three threads, two channels. The main thread reads
batches, predicts, answers, and between two of them brings back what was kept; the loading thread
loads and unloads, so that neither waits for the other; a third gives signs of life. The server
sends few batches ahead, and never unloads a model it still predicts with. A closed channel ends it.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

import msgspec

from loaders.contract import Answer, Loader, Model, ModelFault, Payload, Trust
from loaders.find import Found, find_loader, loader_by_name
from loaders.printing import speaking
from loaders.signatures import OIP_TYPE
from mme.scheduling import as_any_other, push_nobody_aside
from mme.workers import file_times, full, memory
from mme.workers.child_answers import Voice, fault_of, outcome, signature_of, unexpected
from mme.workers.child_channel import BatchChannel, Channel
from mme.workers.child_compiling import Compiling
from mme.workers.child_excess import Excess
from mme.workers.child_keeping import Kept
from mme.workers.child_models import Models
from mme.workers.child_options import ChildOptions
from mme.workers.descriptors import Descriptors
from mme.workers.load_watch import KnownLoad, LoadWatch, Watches
from mme.workers.losses import Losses
from mme.workers.protocol import (
    Absent,
    Answered,
    Beat,
    CallFailed,
    Compile,
    Faulted,
    Isolation,
    Load,
    Loaded,
    Predict,
    Predicted,
    Ready,
    Recall,
    ToWorker,
    Unload,
    Unloaded,
)
from mme.workers.sandbox import NotIsolated, enter
from mme.workers.written import written_bytes

_SWITCH_SECONDS = 0.001  # a thread that loads yields to the one that predicts this often
_SCRIPT = "script"
_LEFT_BYTES, _REHEARSED_BYTES = 1024**2, 16 * 1024**2


class Worker:
    """The models of this process and the three threads' work on them."""

    def __init__(self, options: ChildOptions, isolation: Isolation | None) -> None:
        self._isolation, self._options = isolation, options
        self._predictions = BatchChannel(options.predict_fd, options.poll_seconds)
        self._control = Channel(options.control_fd)
        self._losses, self._watches = Losses(), Watches()
        self._excess = Excess(self._losses, options.heartbeat_seconds)
        self._compiling = Compiling(self._losses)
        self._files = Descriptors(options.control_fd)
        self._prepared, self._rehearsed = set[str](), set[str]()
        self._kept = Kept(Path(options.home) if options.home else None)
        compiling = self._compiling if options.compile_trees else None
        self._models = Models(self._control, self._kept, self._losses, compiling)

    def run(self) -> None:
        """Preloads, reports ready, then predicts until the server closes the channel."""
        if self._isolation is not None:
            self._control.send(self._isolation)
        for name in self._options.preload:
            self._prepare(loader_by_name(name))
        if self._options.compile_trees:
            from loaders.compiled_call import prepare  # noqa: PLC0415 - numpy, onnxruntime

            prepare()
        self._control.send(Ready(os.getpid()))
        threading.Thread(target=self._serve_control, name="load", daemon=True).start()
        threading.Thread(target=self._beat, name="beat", daemon=True).start()
        for message in self._predictions.messages():
            with self._excess.predicting:
                self._answer(message)

    def _answer(self, message: ToWorker) -> None:
        if isinstance(message, Predict):
            if len(message.asks) > 1:
                self._predictions.saw_many()
            self._predictions.send(full.unless_filled(self._predict, message))
        elif isinstance(message, Recall):
            self._models.recall(message)

    def _prepare(self, loader: Loader) -> None:
        """Imports a framework; it lives for ever, so collecting garbage need not walk it."""
        if loader.name in self._prepared and loader.name != _SCRIPT:
            return  # each script has its own frameworks
        modules = len(sys.modules)
        loader.prepare()
        if len(sys.modules) > modules:
            self._excess.imported()
        self._kept.prepared(loader)
        self._prepared.add(loader.name)
        if not self._models:
            gc.collect()
            gc.freeze()

    def _predict(self, message: Predict) -> Predicted | Absent:
        held = self._models.get(message.model)
        if held is None:
            return Absent(message.batch)
        started, before_bytes, (model, voice) = time.perf_counter(), written_bytes(), held
        payloads = [
            Payload(ask.body, ask.content_type, ask.accept, ask.custom_attributes)
            for ask in message.asks
        ]
        results: list[Answered | Faulted]
        try:
            with speaking(voice):
                answers = _predict_any(model, voice.name, payloads)
            results = [outcome(answer, self._options.answer_limit_bytes) for answer in answers]
        except Exception as error:  # noqa: BLE001 - the child's door: whatever a model raises is an answer
            results = [unexpected(error)] * len(payloads)
        seconds, new_bytes = time.perf_counter() - started, written_bytes() - before_bytes
        return self._files.sound(Predicted(message.batch, seconds, results, new_bytes))

    def _serve_control(self) -> None:
        push_nobody_aside()
        try:
            for message in self._control.messages():
                with self._excess.loading:
                    if isinstance(message, Load | Compile):
                        self._control.send(self._files.unless_short(self._answer_load, message))
                        self._tidy()
                    elif isinstance(message, Unload):
                        self._control.send(self._unload(message))
        finally:
            _exit()

    def _answer_load(self, message: Load | Compile) -> Loaded | CallFailed:
        try:
            if isinstance(message, Load):
                return self._load(message)
            return self._compiling.compile(message)
        except ModelFault as fault:
            failure = fault_of(fault)
        except Exception as error:  # noqa: BLE001 - the child's door: a model that can't load fails alone
            failure = unexpected(error)
        memory.give_back()
        return CallFailed(call=message.call, fault=failure)

    def _tidy(self) -> None:
        """Gives back what loading has left, unless it is little: the next load fills it again."""
        if self._losses.untrimmed_bytes >= _LEFT_BYTES:
            before_bytes = memory.private_bytes()
            memory.give_back(memory.YOUNG)
            self._losses.went([], returned_bytes=before_bytes - memory.private_bytes())

    def _load(self, message: Load) -> Loaded:
        voice = Voice(message.name, self._control)
        watch = self._watches.begin(message.directory, message.content)  # before any look there
        try:
            found = self._kept.find(message.content)
            if found is None:
                with speaking(voice):
                    found = self._load_files(Path(message.directory), watch)
            framework, model = found
            can_keep = self._kept.can_keep(framework, model)
            taken = watch.read(model.nbytes(), is_exact=can_keep)
        finally:
            watch.close()
        if framework != _SCRIPT:  # which may take something else the next time
            self._watches.keep(message.content, taken, framework, is_exact=can_keep)
        self._models.add(message.model, model, voice)
        self._kept.came(message.model, message.content, framework)
        self._losses.came(
            message.model, charged_bytes=taken.resident_bytes, grown_bytes=taken.grown_bytes
        )
        return Loaded(
            call=message.call,
            resident_bytes=taken.resident_bytes,
            peak_bytes=taken.peak_bytes,
            file_bytes=taken.file_bytes,
            seconds=time.perf_counter() - watch.began,
            framework=framework,
            signature=signature_of(model),
            keeps=can_keep and bool(message.content) and not self._options.compile_trees,
        )

    def _load_files(self, directory: Path, watch: LoadWatch | KnownLoad) -> tuple[str, Model]:
        with as_any_other():  # a framework's threads may predict
            found = find_loader(directory)
            is_new = self._weigh_framework(found)
        if is_new or not self._watches.expects(found.loader.name):
            watch.begin()  # the next will not take that
        return found.loader.name, self._load_found(found)

    def _weigh_framework(self, found: Found) -> bool:
        """Prepares a framework that is new here: it is the worker's weight, not the model's."""
        name = found.loader.name
        if name in self._prepared and name in self._rehearsed:
            return False
        self._prepare(found.loader)
        if name not in self._rehearsed:
            self._rehearse(found)
        return True

    def _load_found(self, found: Found) -> Model:
        with as_any_other(is_so=found.loader.name == _SCRIPT):  # as above
            return found.loader.load(found.root, Trust(code=self._options.trust_code))

    def _rehearse(self, found: Found) -> None:
        """Loads a framework's first model once for nothing.

        What it sets up on first use, about a megabyte, would be charged to that model otherwise:
        several times its own size. To a large one that is nothing, and scripts would show it.
        """
        size_bytes = sum(path.stat().st_size for path in found.root.rglob("*"))
        if found.loader.name == _SCRIPT or size_bytes > _REHEARSED_BYTES:
            return
        self._rehearsed.add(found.loader.name)
        self._load_found(found).close()
        memory.give_back()
        self._excess.imported()

    def _unload(self, message: Unload) -> Unloaded:
        started, models = time.perf_counter(), message.models
        expected_bytes = max(self._losses.expected_bytes(models), self._excess.expected_bytes())
        before_bytes = memory.private_bytes() if expected_bytes else 0
        self._models.drop(models)
        returned_bytes = None
        if expected_bytes:
            least_bytes = expected_bytes - memory.OBJECTS_BYTES * len(models)  # for the next ones
            returned_bytes = before_bytes - memory.trimmed_bytes(before_bytes - least_bytes)
        self._losses.went(models, returned_bytes=returned_bytes)
        return Unloaded(
            call=message.call,
            seconds=time.perf_counter() - started,
            private_bytes=memory.private_bytes(),
            lost_bytes=self._losses.lost_bytes,
        )

    def _beat(self) -> None:
        try:
            while True:
                time.sleep(self._options.heartbeat_seconds)
                looks = self._excess.look(), self._compiling.due(), self._files.look()
                self._control.send(Beat(memory.private_bytes(), *looks))
        finally:
            _exit()


def _predict_any(model: Model, name: str, payloads: list[Payload]) -> list[Answer | ModelFault]:
    for kind in {payload.content_type for payload in payloads}:  # mostly one
        if kind is not None and kind.startswith(OIP_TYPE):
            from loaders.oip import predict_any  # noqa: PLC0415 - numpy, which a model has loaded

            return predict_any(model, name, payloads)
    return model.predict(payloads)


def _exit() -> NoReturn:
    os._exit(0)  # the server has gone, or ends us: no clean-up can matter to anyone


def main() -> None:
    """Runs a worker as its server started it: `python -m mme.workers.child OPTIONS`."""
    memory.keep_heaps_small()
    file_times.miss_what_is_not_there()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the server's to answer
    sys.setswitchinterval(_SWITCH_SECONDS)
    options = msgspec.json.decode(sys.argv[1].encode(), type=ChildOptions)
    try:
        isolation = None if options.plan is None else enter(options.plan)
        memory.die_with_parent()  # changing users had undone it
        Worker(options, isolation).run()
    except NotIsolated as lacking:
        sys.stderr.write(f"mme worker: isolation is strict, and there is no {lacking}\n")
        sys.exit(1)
    except (BrokenPipeError, ConnectionResetError):
        pass
    except ModelFault as fault:  # preload: a framework that is not installed
        sys.stderr.write(f"mme worker: {fault}\n")
        sys.exit(1)
    _exit()


if __name__ == "__main__":
    main()

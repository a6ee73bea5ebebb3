"""The models of a worker: what answers, what is kept of those that go, and how that comes back.

Decision: a model that is kept leaves and comes back in the thread that predicts, between two
batches, as its server orders them: to read it takes as long as a small prediction, to go through
the other thread ten times as long. All others leave in the loading thread. What is to leave there
and has not come yet is on its way over the other channel, so it is waited for.
Who comes back lies in the predicting thread's heap, who was loaded lay in the other's: what leaves
there stands empty until that is trimmed, in passing, for a trim may take longer than a prediction.
"""

from __future__ import annotations

import threading
import traceback

from loaders.contract import Compilable, Model
from loaders.printing import speaking
from mme.workers import memory
from mme.workers.child_answers import Voice
from mme.workers.child_channel import Channel
from mme.workers.child_compiling import Compiling
from mme.workers.child_keeping import Kept
from mme.workers.losses import Losses
from mme.workers.protocol import Recall


class Models:
    """Models by their opaque ids; in any thread, each of them in one at a time.

    Args:
        control: over which they say what they print.
        kept: of those that were unloaded.
        losses: what they leave behind.
        compiling: those that may be compiled; None: none is.
    """

    def __init__(
        self, control: Channel, kept: Kept, losses: Losses, compiling: Compiling | None
    ) -> None:
        self._control, self._kept, self._losses = control, kept, losses
        self._compiling = compiling
        self._models: dict[str, tuple[Model, Voice] | None] = {}  # None: it had not been kept
        self._recalled = threading.Condition()
        self._is_trimming = False

    def __bool__(self) -> bool:
        return bool(self._models)

    def get(self, key: str) -> tuple[Model, Voice] | None:
        """A model, and where what it prints goes."""
        return self._models.get(key)

    def add(self, key: str, model: Model, voice: Voice) -> None:
        """A model was loaded."""
        self._models[key] = model, voice
        if self._compiling is not None and isinstance(model, Compilable):
            self._compiling.came(key, model)

    def drop(self, keys: list[str]) -> None:
        """Drops models, and keeps what it can of them. What they held is free, but not trimmed."""
        with self._recalled:
            self._recalled.wait_for(lambda: all(key in self._models for key in keys))
        kept = list(filter(self._keep, keys))
        for key in kept:
            self._drop(key)
        if len(kept) < len(keys):
            memory.in_passing(self._drop, [key for key in keys if key not in kept])

    def recall(self, message: Recall) -> None:
        """Drops those who leave for a model that was kept, and brings it back if it is there."""
        before_bytes = memory.private_bytes()
        for key in message.leaving:
            self._keep(key)
            self._drop(key)
        self._losses.went(message.leaving, returned_bytes=None)
        with self._recalled:
            self._models[message.model] = None
            if (found := self._find(message.content)) is not None:
                self._came_back(message, *found, before_bytes)
            self._recalled.notify()
        if self._losses.is_much and not self._is_trimming:
            self._is_trimming = True
            try:
                threading.Thread(target=self._trim, name="trim", daemon=True).start()
            except RuntimeError:  # no thread can be had now: the next recall tries again
                self._is_trimming = False

    def _trim(self) -> None:
        before_bytes = memory.private_bytes()
        memory.trim()
        self._losses.went([], returned_bytes=before_bytes - memory.private_bytes())
        self._is_trimming = False

    def _came_back(self, message: Recall, framework: str, model: Model, before_bytes: int) -> None:
        self.add(message.model, model, Voice(message.name, self._control))
        self._kept.came(message.model, message.content, framework)
        self._losses.came(
            message.model,
            charged_bytes=message.charged_bytes,
            grown_bytes=memory.private_bytes() - before_bytes,
        )

    def _find(self, content: str) -> tuple[str, Model] | None:
        try:
            return self._kept.find(content)
        except Exception:  # noqa: BLE001 - the child's door: it is loaded then
            traceback.print_exc()
            return None

    def _keep(self, key: str) -> bool:
        held = self._models.get(key)
        try:
            return held is not None and self._kept.went(key, held[0])
        except Exception:  # noqa: BLE001 - the child's door: it is only not kept
            traceback.print_exc()
            return False

    def _drop(self, key: str) -> None:  # its own frame: no name may hold the model any longer
        held = self._models.pop(key, None)
        if held is None:
            return
        model, voice = held
        if self._compiling is not None:
            self._compiling.went(key)
        try:
            with speaking(voice):
                model.close()
        except Exception:  # noqa: BLE001 - the child's door: it is dropped all the same
            traceback.print_exc()

"""What a fresh worker imports before it is ready: the frameworks in use where it is to stand.

Decision: the fresh worker is the emptiest, so that loads go to it; without this, all of them would
wait until it has imported what each of them needs. A worker that did not become ready so is started
plain the next time: an import that fails may cost a model its load, but no worker its place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from mme.workers.residency import Residency
from mme.workers.spec import WorkerSpec

_NO_FRAMEWORK = "script"  # what a script needs, it imports itself


class Preload:
    """The preloading of one slot's workers, one after the other.

    Args:
        spec: how they are started, and what is preloaded in any case.
        in_use: the frameworks of the models in the workers beside it.
    """

    def __init__(self, spec: WorkerSpec, in_use: Callable[[], Collection[str]]) -> None:
        self._spec, self._in_use = spec, in_use
        self._lost: set[str] = set()
        self._is_plain = False

    def next_spec(self) -> WorkerSpec:
        """How to start the next worker. Until `succeeded`, the one after it is a plain one."""
        if self._is_plain:
            return self._spec
        self._is_plain = True
        wanted = {*self._spec.preload, *self._in_use(), *self._lost} - {_NO_FRAMEWORK}
        return replace(self._spec, preload=tuple(sorted(wanted)))

    def succeeded(self) -> None:
        """The worker is ready."""
        self._is_plain = False
        self._lost.clear()

    def lost(self, residencies: Collection[Residency]) -> None:
        """These models went with a worker, and will be asked for again."""
        self._lost = {residency.framework for residency in residencies}

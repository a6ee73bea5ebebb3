"""Flat forests of models that were unloaded, in files: to load one again takes a tenth of the time.

Decisions: a model is kept when it is unloaded, for most never are; its own files need not even be
looked at then. The directory is this process's own, readable by nobody else, and goes with it. What
was not asked for the longest goes first; a full disk only means that nothing is kept. Rejected: to
keep them in memory, which is what unloading was for.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from loaders.forest import Forest
from loaders.xgboost_objectives import OBJECTIVES
from loaders.xgboost_scorers import FlatScorer, Member

_LIMIT_BYTES = 256 * 1024**2


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    width: int
    objective: str
    classes: int
    outputs: tuple[int, ...]
    base: tuple[float, ...]
    roots: int
    depth: int
    types: tuple[str, str]  # of numbers: sides, left children
    side: bytes
    value: bytes
    left: bytes


_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(list[_Kept]).decode


class KeptForests:
    """The members of models, by what the models' files are called by; in any thread.

    Args:
        directory: where they are kept, this process's own; None: none is kept.
        limit_bytes: that they may take there.
    """

    def __init__(self, directory: Path | None = None, limit_bytes: int = _LIMIT_BYTES) -> None:
        self.directory = directory
        self._limit_bytes = limit_bytes
        self._sizes: dict[str, int] = {}  # in bytes; the one asked for last stands last
        self._kept_bytes = 0
        self._turn = threading.Lock()

    def keep(self, content: str, members: Sequence[Member]) -> None:
        """Keeps members that are flat forests; others are passed over."""
        if self.directory is None or content in self._sizes:
            return
        kept = [_pack(each, each.scorer) for each in members if isinstance(each.scorer, FlatScorer)]
        if kept and len(kept) == len(members):
            with self._turn, suppress(OSError):
                self._write(content, _encode(kept))

    def find(self, content: str) -> list[Member] | None:
        """What was kept, or None."""
        if content not in self._sizes:
            return None
        with self._turn:
            size_bytes = self._sizes.pop(content, None)
            if size_bytes is None:  # it had to make room meanwhile
                return None
            try:
                found = _decode(self._path(content).read_bytes())
            except (OSError, msgspec.MsgspecError):  # someone has deleted or cut it
                self._kept_bytes -= size_bytes
                return None
            self._sizes[content] = size_bytes
        return list(map(_unpack, found))

    def _write(self, content: str, packed: bytes) -> None:
        if len(packed) > self._limit_bytes:
            return
        while self._kept_bytes + len(packed) > self._limit_bytes:
            oldest = next(iter(self._sizes))
            self._kept_bytes -= self._sizes.pop(oldest)
            self._path(oldest).unlink(missing_ok=True)
        path = self._path(content)
        unfinished = path.with_suffix(".new")
        try:
            unfinished.write_bytes(packed)
            unfinished.replace(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        self._sizes[content] = len(packed)
        self._kept_bytes += len(packed)

    def _path(self, content: str) -> Path:
        return Path(self.directory or "", hashlib.sha256(content.encode()).hexdigest())


def _pack(member: Member, scorer: FlatScorer) -> _Kept:
    forest = scorer.forest
    return _Kept(
        width=member.width,
        objective=member.objective,
        classes=member.classes,
        outputs=member.outputs,
        base=forest.base,
        roots=forest.roots,
        depth=forest.depth,
        types=(forest.side.dtype.str, forest.left.dtype.str),
        side=forest.side.tobytes(),
        value=forest.value.tobytes(),
        left=forest.left.tobytes(),
    )


def _unpack(kept: _Kept) -> Member:
    forest = Forest(
        width=kept.width,
        base=kept.base,
        roots=kept.roots,
        depth=kept.depth,
        side=np.frombuffer(kept.side, kept.types[0]),
        value=np.frombuffer(kept.value, np.float32),
        left=np.frombuffer(kept.left, kept.types[1]),
    )
    return Member(
        width=kept.width,
        objective=kept.objective,
        classes=kept.classes,
        outputs=kept.outputs,
        scorer=FlatScorer(forest, OBJECTIVES[kept.objective][1]),
    )

"""Flat forests of models that were unloaded, in files: to load one again takes a tenth of the time.

Decisions: a model is kept when it is unloaded, for most never are; then its file need only be read
and recognised, by its digest. The directory is this process's own, readable by nobody else, and
goes with it. What was not asked for the longest goes first; a full disk only means that nothing is
kept. Rejected: to keep them in memory, which is what unloading was for.
"""

from __future__ import annotations

import threading
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


_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(_Kept).decode


class KeptForests:
    """Members by what their files' contents digest to; in any thread.

    Args:
        directory: where they are kept, this process's own; None: none is kept.
        limit_bytes: that they may take there.
    """

    def __init__(self, directory: Path | None = None, limit_bytes: int = _LIMIT_BYTES) -> None:
        self.directory = directory
        self._limit_bytes = limit_bytes
        self._sizes: dict[bytes, int] = {}  # in bytes; the one asked for last stands last
        self._kept_bytes = 0
        self._turn = threading.Lock()

    def keep(self, member: Member) -> None:
        """Keeps a member that is a flat forest of known content; others are passed over."""
        scorer, content = member.scorer, member.content
        if self.directory is None or content is None or not isinstance(scorer, FlatScorer):
            return
        with self._turn, suppress(OSError):
            if content not in self._sizes:
                packed = _encode(_pack(member, scorer.forest))
                self._write(content, self.directory / content.hex(), packed)

    def find(self, content: bytes) -> Member | None:
        """The member that was kept, or None."""
        if self.directory is None or content not in self._sizes:
            return None
        with self._turn:
            if content not in self._sizes:
                return None
            size_bytes = self._sizes.pop(content)
            try:
                kept = _decode((self.directory / content.hex()).read_bytes())
            except (OSError, msgspec.MsgspecError):  # someone has deleted or cut it
                self._kept_bytes -= size_bytes
                return None
            self._sizes[content] = size_bytes
        return _unpack(kept, content)

    def _write(self, content: bytes, path: Path, packed: bytes) -> None:
        if len(packed) > self._limit_bytes:
            return
        while self._kept_bytes + len(packed) > self._limit_bytes:
            oldest = next(iter(self._sizes))
            self._kept_bytes -= self._sizes.pop(oldest)
            path.with_name(oldest.hex()).unlink(missing_ok=True)
        unfinished = path.with_suffix(".new")
        unfinished.write_bytes(packed)
        unfinished.replace(path)
        self._sizes[content] = len(packed)
        self._kept_bytes += len(packed)


def _pack(member: Member, forest: Forest) -> _Kept:
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


def _unpack(kept: _Kept, content: bytes) -> Member:
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
        content=content,
    )

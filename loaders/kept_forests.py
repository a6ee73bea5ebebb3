"""Flat forests of models that were unloaded, in files: to load one again takes a tenth of the time.

Decisions: a model is kept when it is unloaded, for most never are; its own files need not even be
looked at then. A file is nothing but the arrays, which lie in memory as they were read, in one
piece; what else a forest is, some hundred bytes, stays in memory: between two loads the caches go
cold, so that what a load costs is the code it runs through. The directory is this process's own,
readable by nobody else, and goes with it. What was not asked for the longest goes first; a full
disk only means that nothing is kept. Rejected: to keep the trees in memory, which is what unloading
was for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from sys import intern

import msgspec
import numpy as np
from numpy.typing import NDArray

from loaders.forest import Forest
from loaders.xgboost_objectives import OBJECTIVES
from loaders.xgboost_scorers import FlatScorer, Member

_LIMIT_BYTES = 256 * 1024**2
_LIMIT_MODELS = 20_000  # small ones; what is known of them lies in memory
_FLOAT = np.dtype(np.float32)
_ALIGNED_BYTES = 4


class _Shape(msgspec.Struct, frozen=True, gc=False):
    """All that makes a member, but for its arrays."""

    width: int
    objective: str
    classes: int
    outputs: tuple[int, ...]
    base: tuple[float, ...]
    roots: int
    depth: int
    nodes: int
    side: np.dtype[np.unsignedinteger]
    left: np.dtype[np.unsignedinteger]


class _File(msgspec.Struct, frozen=True, gc=False):
    path: str
    size_bytes: int
    members: tuple[_Shape, ...]


class KeptForests:
    """The members of models, by what the models' files are called by; in any thread.

    Args:
        directory: where they are kept, this process's own; None: none is kept.
        limit_bytes: that they may take there.
    """

    def __init__(self, directory: Path | None = None, limit_bytes: int = _LIMIT_BYTES) -> None:
        self.directory = directory
        self._limit_bytes = limit_bytes
        self._files: dict[str, _File] = {}  # the one asked for last stands last
        self._numbers = count()
        self._kept_bytes = 0
        self._turn = threading.Lock()

    def can_keep(self, members: Sequence[Member]) -> bool:
        """Whether these are what is kept: only flat forests are."""
        return self.directory is not None and len(_flat(members)) == len(members) > 0

    def keep(self, content: str, members: Sequence[Member]) -> bool:
        """Whether members are kept now."""
        if not self.can_keep(members):
            return False
        with self._turn, suppress(OSError):
            if content not in self._files:
                flat = _flat(members)
                packed = b"".join(map(_pack, flat))
                self._write(content, packed, tuple(map(_shape, members, flat)))
        return content in self._files

    def find(self, content: str) -> list[Member] | None:
        """What was kept, or None."""
        with self._turn:
            file = self._files.pop(content, None)
            if file is None:
                return None
            data = _read(file.path, file.size_bytes)
            if len(data) < file.size_bytes:  # someone has deleted or cut it
                self._remove(file)
                return None
            self._files[content] = file
        members, start = [], 0
        for shape in file.members:
            member, start = _unpack(shape, data, start)
            members.append(member)
        return members

    def _remove(self, file: _File) -> None:
        self._kept_bytes -= file.size_bytes
        with suppress(OSError):
            Path(file.path).unlink()

    def _write(self, content: str, packed: bytes, members: tuple[_Shape, ...]) -> None:
        if len(packed) > self._limit_bytes:
            return
        while self._kept_bytes + len(packed) > self._limit_bytes or (
            len(self._files) >= _LIMIT_MODELS
        ):
            self._remove(self._files.pop(next(iter(self._files))))
        path = Path(self.directory or "", f"forest-{next(self._numbers)}")
        try:
            path.write_bytes(packed)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        self._files[content] = _File(str(path), len(packed), members)
        self._kept_bytes += len(packed)


def _flat(members: Sequence[Member]) -> list[Forest]:
    return [each.scorer.forest for each in members if isinstance(each.scorer, FlatScorer)]


def _read(path: str, size_bytes: int) -> bytes:
    """As much of it as there is, into memory of just that size."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, size_bytes)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _shape(member: Member, forest: Forest) -> _Shape:
    return _Shape(
        member.width,
        intern(member.objective),
        member.classes,
        member.outputs,
        forest.base,
        forest.roots,
        forest.depth,
        forest.nodes,
        forest.side.dtype,
        forest.left.dtype,
    )


def _pack(forest: Forest) -> bytes:
    return b"".join(map(_padded, (forest.value, forest.left, forest.side)))


def _padded(array: NDArray[np.generic]) -> bytes:
    return array.tobytes() + bytes(-array.nbytes % _ALIGNED_BYTES)


def _unpack(shape: _Shape, data: bytes, start: int) -> tuple[Member, int]:
    """The member whose arrays start there, and where the next one's do."""
    nodes, lefts = shape.nodes, start + _FLOAT.itemsize * shape.nodes
    sides = lefts + nodes * shape.left.itemsize
    sides += -sides % _ALIGNED_BYTES
    end = sides + nodes * shape.side.itemsize
    forest = Forest(
        width=shape.width,
        base=shape.base,
        roots=shape.roots,
        depth=shape.depth,
        side=np.frombuffer(data, shape.side, nodes, sides),
        value=np.frombuffer(data, _FLOAT, nodes, start),
        left=np.frombuffer(data, shape.left, nodes, lefts),
    )
    member = Member(
        width=shape.width,
        objective=shape.objective,
        classes=shape.classes,
        outputs=shape.outputs,
        scorer=FlatScorer(forest, OBJECTIVES[shape.objective][1]),
    )
    return member, end + -end % _ALIGNED_BYTES

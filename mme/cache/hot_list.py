"""Which models were in memory, hottest first: in a file, so that a restart can bring them back.

Heat is a number of uses that halves every `_HALF_LIFE_SECONDS`. Decision: the file is a hint. It is
written whole and renamed, never synced; one that is torn, of another format or of another store is
an empty one; and what it names is asked of the store and measured like anything else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from mme.domain import ArtifactVersion, ModelKey

_FORMAT = 1
_HALF_LIFE_SECONDS = 600.0
_LISTED_LIMIT = 20_000
_BYTES_LIMIT = 64 * 1024**2  # nothing that we wrote is larger


class HotModel(msgspec.Struct, frozen=True, array_like=True):
    """One model that was in memory."""

    key: str
    etag: str
    size_bytes: int
    heat: float

    def version(self, location: str) -> ArtifactVersion:
        """Which content it was."""
        return ArtifactVersion(
            location=location, key=ModelKey(self.key), etag=self.etag, size_bytes=self.size_bytes
        )


class _File(msgspec.Struct):
    format: int
    location: str  # of the store
    models: list[HotModel]


class Heat:
    """Uses of what is in memory, fading. The time is an argument.

    Args:
        before: what an earlier run knew.
        now: monotonic, as everywhere here.
    """

    def __init__(self, before: Mapping[ModelKey, float], now: float) -> None:
        self._heat = dict(before)
        self._hits: dict[str, int] = {}  # by copy
        self._at = now
        self.begin(now)

    def begin(self, now: float) -> None:
        """Measures anew: `count` follows for all that is in memory, slice by slice, and `end`."""
        self._now = now
        self._faded = 0.5 ** ((now - self._at) / _HALF_LIFE_SECONDS)
        self._counted: dict[ModelKey, float] = {}
        self._counted_hits: dict[str, int] = {}

    def count(self, copies: Iterable[tuple[str, ModelKey, int]]) -> None:
        """Args: copies: the id, the model and the uses of each."""
        heat, hits = self._counted, self._counted_hits
        for copy_id, key, count in copies:
            before = heat[key] if key in heat else self._heat.get(key, 0.0) * self._faded
            heat[key] = before + count - self._hits.get(copy_id, 0)
            hits[copy_id] = count

    def end(self) -> dict[ModelKey, float]:
        """The heat of each model that was counted; any other is forgotten."""
        self._heat, self._hits, self._at = self._counted, self._counted_hits, self._now
        return self._heat


def write_hot_list(path: Path, location: str, models: list[HotModel]) -> None:
    """Replaces the file; of too many, the first are kept. Blocks; raises OSError.

    Args:
        path: the file.
        location: of the store.
        models: hottest first.
    """
    incoming = path.with_suffix(".incoming")
    incoming.write_bytes(msgspec.json.encode(_File(_FORMAT, location, models[:_LISTED_LIMIT])))
    incoming.replace(path)


def read_hot_list(path: Path, location: str) -> list[HotModel]:
    """What the file holds for this store, hottest first; nothing where it can't be read. Blocks."""
    with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        if path.stat().st_size <= _BYTES_LIMIT:
            file = msgspec.json.decode(path.read_bytes(), type=_File)
            if (file.format, file.location) == (_FORMAT, location):
                return file.models[:_LISTED_LIMIT]
    return []

"""Runs `unpack` for a test, and says what came of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mme.config import DiskConfig
from mme.errors import ArtifactRefused
from mme.store.unpack import unpack

PIECE_BYTES = 64 * 1024


async def flow(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """The pieces, as a store would send them."""
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


def pieces_of(blob: bytes, cuts: Sequence[int] = ()) -> list[bytes]:
    """`blob` cut at the given places, or into pieces as they come from S3."""
    places = sorted({0, len(blob), *(cuts or range(0, len(blob), PIECE_BYTES))})
    return [blob[begin:end] for begin, end in itertools.pairwise(places)]


def unpacked(
    blob: bytes,
    directory: Path,
    *,
    limits: DiskConfig | None = None,
    cuts: Sequence[int] = (),
    claim: Callable[[int], None] = lambda _: None,
) -> int:
    """Unpacks `blob` into `directory`, in a loop of its own."""

    async def run() -> int:
        with ThreadPoolExecutor(1) as executor:
            return await unpack(
                flow(pieces_of(blob, cuts)),
                directory,
                limits=limits or DiskConfig(),
                executor=executor,
                claim=claim,
            )

    return asyncio.run(run())


def assert_refused(
    blob: bytes, directory: Path, says: str, limits: DiskConfig | None = None
) -> None:
    """It is refused with that message, and nothing is left where it would have gone."""
    beside = set(directory.parent.iterdir())
    with pytest.raises(ArtifactRefused, match=says):
        unpacked(blob, directory, limits=limits)
    assert set(directory.parent.iterdir()) == beside


def tree(directory: Path) -> dict[str, bytes | None]:
    """What lies under `directory`: contents of files, None for directories."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }

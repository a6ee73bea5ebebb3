"""A small gzip is decompressed at once: to the same bytes, and refused in the same words."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mme.config import DiskConfig
from mme.errors import ArtifactRefused
from mme.store.feed import Feed
from mme.store.tar_bytes import TarBytes

PLAIN = bytes(range(256)) * 40


def read(feed: Feed) -> bytes | str:
    source, found = TarBytes(feed, DiskConfig()), b""
    try:
        while data := source.read(1000):
            found += data
    except ArtifactRefused as refusal:
        return str(refusal)
    return found


def at_once(blob: bytes) -> bytes | str:
    feed = Feed(asyncio.new_event_loop())
    feed._loop.close()
    feed.give(blob)
    return read(feed)


def piece_by_piece(blob: bytes) -> bytes | str:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(blob), 700):
            yield blob[start : start + 700]

    async def filled() -> Feed:
        feed = Feed(asyncio.get_running_loop())
        await feed.fill(pieces())
        return feed

    return read(asyncio.run(filled()))


@pytest.mark.parametrize(
    "blob",
    [
        gzip.compress(PLAIN),
        gzip.compress(b""),
        gzip.compress(PLAIN) + gzip.compress(PLAIN[::-1]),
        gzip.compress(PLAIN) + bytes(100),
        gzip.compress(PLAIN) + b"more",
        gzip.compress(PLAIN)[:-1],
        gzip.compress(PLAIN)[:-8],
        gzip.compress(PLAIN)[:12],
        gzip.compress(PLAIN)[:-4] + b"\xff\xff\xff\xff",
        gzip.compress(PLAIN)[:-4] + bytes(4),
    ],
    ids=["one", "empty", "two", "padded", "followed", "short", "no-end", "head", "much", "none"],
)
def test_it_is_read_as_it_is_piece_by_piece(blob: bytes) -> None:
    assert at_once(blob) == piece_by_piece(blob)


@given(at=st.integers(0, 200), value=st.integers(0, 255), cut=st.integers(0, 200))
def test_a_damaged_one_is_refused_as_it_is_piece_by_piece(at: int, value: int, cut: int) -> None:
    whole = bytearray(gzip.compress(PLAIN, mtime=0))
    whole[at % len(whole)] = value
    blob = bytes(whole[: len(whole) - cut])
    assert at_once(blob) == piece_by_piece(blob)

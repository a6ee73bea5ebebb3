"""Zstandard in pieces: nothing is lost, and no piece makes much, whatever it says."""

from __future__ import annotations

import io
import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from mme.store.zstd_blocks import zstd_pieces

MIB = 1024**2
NOISE = random.Random(3).randbytes(3 * MIB)
SKIPPABLE = b"\x53\x2a\x4d\x18" + (200_000).to_bytes(4, "little") + bytes(200_000)
# A frame of blocks of 128 KiB that are one byte each: the most that little can make.
BOMB = (
    b"\x28\xb5\x2f\xfd\x00\x58"
    + b"".join((1 << 1 | 128 * 1024 << 3).to_bytes(3, "little") + b"x" for _ in range(100))
    + (1 | 1 << 1 | 8 << 3).to_bytes(3, "little")
    + b"x"
)


def pieces(stream: bytes) -> list[bytes]:
    return list(zstd_pieces(io.BytesIO(stream).read))


def outputs(stream: bytes) -> list[bytes]:
    """What each piece makes; a frame that has ended is followed by another."""
    frames, frame, made = zstandard.ZstdDecompressor(), None, []
    for piece in pieces(stream):
        frame = frame or frames.decompressobj()
        made.append(frame.decompress(piece))
        assert not frame.unused_data
        frame = None if frame.eof else frame
    assert frame is None
    return made


def compressed(data: bytes, *, level: int, checksum: bool, sized: bool) -> bytes:
    settings = {"write_checksum": checksum, "write_content_size": sized}
    return zstandard.ZstdCompressor(level=level, **settings).compress(data)


@given(
    size=st.one_of(st.integers(0, 300), st.sampled_from([128 * 1024 * n for n in range(1, 25)])),
    level=st.integers(1, 9),
    checksum=st.booleans(),
    sized=st.booleans(),
    times=st.integers(1, 3),
)
def test_pieces_make_what_the_frames_hold_a_mebibyte_at_a_time_at_most(
    size: int, level: int, checksum: bool, sized: bool, times: int
) -> None:
    data = NOISE[:size]
    stream = times * compressed(data, level=level, checksum=checksum, sized=sized)
    made = outputs(stream)
    assert b"".join(made) == times * data
    assert max(map(len, made)) <= MIB


def test_a_bomb_goes_off_a_mebibyte_at_a_time() -> None:
    made = outputs(BOMB)
    assert sum(map(len, made)) == 100 * 128 * 1024 + 8
    assert max(map(len, made)) <= MIB


def test_what_is_to_be_skipped_makes_nothing() -> None:
    frame = zstandard.compress(b"content")
    assert b"".join(pieces(SKIPPABLE + frame)) == SKIPPABLE + frame
    assert max(map(len, pieces(SKIPPABLE))) <= 64 * 1024


@given(st.binary(max_size=300), st.integers(0, 40))
def test_no_byte_is_lost_of_whatever_comes(garbage: bytes, cut: int) -> None:
    for stream in (garbage, zstandard.compress(garbage)[:cut] + garbage, BOMB[:cut] + garbage):
        found = pieces(stream)
        assert b"".join(found) == stream
        assert all(found)


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_a_block_that_says_it_is_huge_is_given_in_parts(kind: int) -> None:
    huge = b"\x28\xb5\x2f\xfd\x00\x58" + (kind << 1 | 2**21 - 1 << 3).to_bytes(3, "little")
    stream = huge + NOISE
    assert b"".join(pieces(stream)) == stream
    assert max(map(len, pieces(stream))) <= 9 * 128 * 1024

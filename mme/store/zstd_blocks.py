"""Zstandard, cut where it may be: pieces of which each makes a known number of bytes at most.

Decision: a block says in three bytes how long it is and makes 128 KiB at most, so blocks are handed
on a few at a time, and no input can make much of little at once. Rejected: slices of 2 KiB, small
enough for the worst that they can hold: 50 MB took 150 ms in 22,000 of them, and 95 so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

_BLOCKS = 8  # 1 MiB at most
_MAGIC_BYTES = 4
_SKIPPED = b"\x2a\x4d\x18"  # the end of a skippable frame's magic number
_SKIPPED_BYTES = 64 * 1024
_BLOCK_BYTES = 128 * 1024  # no block has more
_HEADER_BYTES = 3  # of a block
_RLE = 1  # a block of one byte, again and again
_CHECKSUM_BYTES = 4


def zstd_pieces(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """The stream's bytes, all of them; no piece is empty or has bytes of two frames.

    What is no sound frame is given all the same, for the decompressor to refuse.

    Args:
        read: gives exactly so many bytes; fewer only at the end.
    """
    while head := read(_MAGIC_BYTES + 1):
        if head[1:_MAGIC_BYTES] == _SKIPPED:
            yield from _skipped(head, read)
        else:
            yield from _frame(head, read)


def _skipped(head: bytes, read: Callable[[int], bytes]) -> Iterator[bytes]:
    head += read(3)
    left = int.from_bytes(head[_MAGIC_BYTES:], "little")
    yield head
    while left and (piece := read(min(left, _SKIPPED_BYTES))):
        left -= len(piece)
        yield piece


def _frame(head: bytes, read: Callable[[int], bytes]) -> Iterator[bytes]:
    descriptor = head[-1]
    is_single = descriptor >> 5 & 1
    size_bytes = (is_single, 2, 4, 8)[descriptor >> 6]
    dictionary_bytes = (0, 1, 2, 4)[descriptor & 3]
    piece = [head, read(1 - is_single + dictionary_bytes + size_bytes)]
    is_last, count = 0, 0
    while not is_last:
        header = read(_HEADER_BYTES)
        told = int.from_bytes(header, "little")
        is_last, kind, length = told & 1, told >> 1 & 3, told >> 3
        piece += header, read(1 if kind == _RLE else min(length, _BLOCK_BYTES))
        count += 1
        if len(header) < _HEADER_BYTES:
            break
        if count == _BLOCKS and not is_last:
            yield b"".join(piece)
            piece, count = [], 0
    piece.append(read(_CHECKSUM_BYTES * (descriptor >> 2 & 1)))
    if rest := b"".join(piece):
        yield rest

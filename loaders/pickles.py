"""Pickles and joblib files, plain or compressed: looked into without running them, and loaded.

Decisions: what is compressed is told by its first bytes, as joblib does, for names lie. joblib's
reader is written in Python and only needed for the arrays that joblib stores in its own way, so a
plain pickle goes to the reader written in C. Loading runs the file's own code: callers ask `Trust`.
"""

from __future__ import annotations

import bz2
import lzma
import mmap
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

HEAD_BYTES = 64 * 1024
RAISED_BY_PICKLES = (
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32  # tells them apart by itself
_ZLIB_MAGIC = (b"x\x01", b"x^", b"x\x9c", b"x\xda")
_LZ4_MAGIC = b"\x04\x22\x4d\x18"
_JOBLIBS_ARRAYS = b"joblib.numpy_pickle"


class _Decompressor(Protocol):
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def first_bytes(path: Path) -> bytes:
    """The head of a file, of its contents if it is compressed; b"" where it can't be unpacked."""
    with path.open("rb", buffering=0) as file:
        head = file.read(HEAD_BYTES)
    try:
        decompressor = _decompressor(head)
        return head if decompressor is None else decompressor.decompress(head, HEAD_BYTES)
    except RAISED_BY_PICKLES:
        return b""


def contents(path: Path) -> Iterator[bytes]:
    """Yields the file in pieces, decompressed. Raises one of RAISED_BY_PICKLES where it is cut."""
    with path.open("rb") as file:
        piece = file.read(HEAD_BYTES)
        decompressor = _decompressor(piece)
        while piece:
            yield piece if decompressor is None else decompressor.decompress(piece)
            piece = file.read(HEAD_BYTES)


def read_pickle(path: Path) -> Any:  # noqa: ANN401 - whatever was put in
    """Loads one file, running whatever it says. Raises one of RAISED_BY_PICKLES, or anything."""
    with path.open("rb") as file:
        compressed = _decompressor(file.read(HEAD_BYTES)) is not None
    if compressed or _mentions(path, _JOBLIBS_ARRAYS):
        import joblib  # noqa: PLC0415 - comes with scikit-learn

        return joblib.load(path)
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 - the operator trusts the artifact's code


def _decompressor(head: bytes) -> _Decompressor | None:
    if head.startswith((b"\x1f\x8b", *_ZLIB_MAGIC)):
        return zlib.decompressobj(_GZIP_OR_ZLIB)
    if head.startswith(b"BZh"):
        return bz2.BZ2Decompressor()
    if head.startswith((b"\xfd7zXZ", b"]\0\0")):
        return lzma.LZMADecompressor()
    if head.startswith(_LZ4_MAGIC):
        from lz4.frame import LZ4FrameDecompressor  # noqa: PLC0415 - rarely needed

        made: _Decompressor = LZ4FrameDecompressor()
        return made
    return None


def _mentions(path: Path, words: bytes) -> bool:
    if not path.stat().st_size:  # mmap takes no empty file
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
        return pages.find(words) >= 0

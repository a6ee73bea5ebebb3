"""The tar inside `.tar.gz`, `.tar.zst` or plain, told by its first bytes; what comes out is capped.

Decision: the cap holds while decompressing and counts every byte that comes out, also those that
are skipped or are headers; a bomb costs one read. Rejected: trusting the sizes that the archive
declares.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import zstandard
from isal import igzip, isal_zlib

from mme.config import DiskConfig
from mme.errors import ArtifactRefused
from mme.store.feed import Feed
from mme.store.zstd_blocks import zstd_pieces

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER_BYTES = 256 * 1024
_RATIO_EXEMPT_BYTES = 64 * 1024**2  # small models of zeros compress a thousandfold and hurt nobody
_ZSTD_WINDOW_BYTES = 128 * 1024**2  # what `zstd --long` makes
_GZIP, _GZIP_WINDOW = b"\x1f\x8b", 16 + 15
_GZIP_END = struct.Struct("<I")  # how much it holds, modulo 2^32
_SMALL_BYTES = 4 * 1024**2
_ZSTD = b"\x28\xb5\x2f\xfd"
_TAR, _TAR_END = b"ustar", 262
_FOREIGN = {
    b"PK\x03\x04": "a zip file",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"\x89HDF": "an HDF5 file",
    b"{": "JSON",
    b"<": "XML or HTML",
}
_NAMES = (b"BZh", b"{", b"<")  # of those, what a tar's first member may be called, too
# What the decompressors raise; isal's stubs call its error an instance.
_DAMAGE: tuple[type[Exception], ...] = (  # type: ignore[assignment]
    OSError,
    EOFError,
    isal_zlib.IsalError,
    zstandard.ZstdError,
)


class Readable(Protocol):
    """What the decompressors have in common."""

    def read(self, size: int, /) -> bytes | None:
        """At most `size` bytes; fewer only at the end."""
        ...


class TarBytes:
    """The decompressed stream, read in the extracting thread."""

    def __init__(self, feed: Feed, limits: DiskConfig) -> None:
        self._feed = feed
        self._limits = limits
        self._source: Readable | None = None
        self.given_bytes = 0

    def read(self, size_bytes: int) -> bytes:
        """Reads `size_bytes`; fewer only at the end of the stream.

        Raises:
            ArtifactRefused: more comes out than is allowed, or the compressed data is damaged.
            FeedAborted: nobody wants the result any more.
        """
        self._feed.check()
        if self._source is None:
            self._source = _decompressor(self._feed)
        try:
            data = self._source.read(size_bytes) or b""
        except _DAMAGE as error:
            raise ArtifactRefused(f"The archive is damaged or cut short: {error}.") from error
        self.given_bytes += len(data)
        self._check_limits()
        return data

    def _check_limits(self) -> None:
        if self.given_bytes > self._limits.unpacked_limit_bytes:
            raise ArtifactRefused(
                f"The archive unpacks to more than {self._limits.unpacked_limit_bytes} bytes "
                "(setting unpacked_limit)."
            )
        allowed = self._limits.unpack_ratio_limit * self._feed.taken_bytes
        if self.given_bytes > max(allowed, _RATIO_EXEMPT_BYTES):
            raise ArtifactRefused(
                "The archive unpacks to more than "
                f"{self._limits.unpack_ratio_limit:g} times its size (setting unpack_ratio_limit)."
            )


def _decompressor(feed: Feed) -> Readable:
    head = feed.head(6)
    if head.startswith(_GZIP):
        return _small_gzip(feed) or igzip.IGzipFile(fileobj=feed, mode="rb")  # type: ignore[no-untyped-call]
    if head.startswith(_ZSTD):
        return io.BufferedReader(_ZstdReader(feed), _BUFFER_BYTES)
    for magic, name in _FOREIGN.items():
        if head.startswith(magic) and not (magic in _NAMES and _is_tar(feed)):
            raise ArtifactRefused(
                f"The object is no tarball but {name}; pack the model as .tar.gz (mme pack)."
            )
    if not head:
        raise ArtifactRefused("The object is empty; it must be a tarball (.tar.gz).")
    return io.BufferedReader(feed, _BUFFER_BYTES)


def _is_tar(feed: Feed) -> bool:
    return feed.head(_TAR_END).endswith(_TAR)


def _small_gzip(feed: Feed) -> Readable | None:
    """What a gzip holds, at once; None where that is not little, or there is more than one of it.

    How much it says it holds is believed only as the most that is decompressed.
    """
    data = feed.whole()
    if data is None or len(data) < _GZIP_END.size:
        return None
    [size_bytes] = _GZIP_END.unpack(data[-_GZIP_END.size :])
    if size_bytes > _SMALL_BYTES:
        return None
    frame = isal_zlib.decompressobj(wbits=_GZIP_WINDOW)
    try:
        plain = frame.decompress(data, max_length=size_bytes + 1)
    except _DAMAGE:  # damaged: told of by who reads it piece by piece
        return None
    is_all = frame.eof and not frame.unused_data and len(plain) == size_bytes
    return io.BytesIO(plain) if is_all else None


class _ZstdReader(io.RawIOBase):
    """Zstandard frames, one after another; a frame that is cut short is an error.

    Rejected: `ZstdDecompressor.stream_reader`, which takes a cut frame for the end.
    """

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self._pieces = zstd_pieces(_exactly(feed))
        self._frames = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._output = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        target = memoryview(buffer).cast("B")
        while not self._output:
            piece = next(self._pieces, b"")
            if not piece:
                if self._frame is not None:
                    raise EOFError("a zstd frame ends too early")
                return 0
            self._frame = self._frame or self._frames.decompressobj()
            self._output = memoryview(self._frame.decompress(piece))
            if self._frame.unused_data:
                raise EOFError("a zstd frame ends within a block")
            self._frame = None if self._frame.eof else self._frame
        count = min(len(target), len(self._output))
        target[:count] = self._output[:count]
        self._output = self._output[count:]
        return count


def _exactly(feed: Feed) -> Callable[[int], bytes]:
    return io.BufferedReader(feed, _BUFFER_BYTES).read

"""Tarballs for tests: sound ones from a dict, and hostile ones member by member."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable, Mapping

BLOCK = 512


def tarball(files: Mapping[str, bytes], *, tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    """A `.tar.gz` of regular files by name; names ending in a slash are directories."""
    return gzip.compress(tar(files, tar_format=tar_format), 1, mtime=0)


def tar(files: Mapping[str, bytes], *, tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    """The same, uncompressed."""
    return joined([(entry(name), data) for name, data in files.items()], tar_format=tar_format)


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    """A header to be; a name that ends in a slash makes it a directory."""
    info = tarfile.TarInfo(name.rstrip("/") if name.endswith("/") else name)
    info.type = tarfile.DIRTYPE if name.endswith("/") else kind
    info.linkname = link
    return info


def joined(
    members: Iterable[tuple[tarfile.TarInfo, bytes]], *, tar_format: int = tarfile.PAX_FORMAT
) -> bytes:
    """A tar of these, sizes filled in, with its end mark."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tar_format) as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return output.getvalue()


def header(name: bytes, *, kind: bytes = b"0", size: bytes = b"0" * 11 + b"\0") -> bytes:
    """A raw ustar header with a right checksum, for what tarfile would not write."""
    block = bytearray(BLOCK)
    block[0 : len(name)] = name
    block[100:108] = b"0000644\0"
    block[124:136] = size
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)

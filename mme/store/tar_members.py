"""A tar stream, member after member: files and directories pass, everything else is refused.

Decision: our own reader, not `tarfile`. Even in stream mode that one keeps pax headers and sparse
maps of any size in memory, takes a damaged header in mid-archive for the end, and differs in its
known holes between 3.11.2 and 3.11.14; what is left to read here (files, directories, long names)
is small. What would change our mind: needing links or sparse files. Its answers are compared with
tarfile's in the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from mme.errors import ArtifactRefused
from mme.store.tar_header import (
    BLOCK_BYTES,
    Header,
    parse_decimal,
    parse_header,
    parse_pax,
    shown,
)

READ_BYTES = 256 * 1024
_EXTENDED_BYTES = 256 * 1024  # of one pax or long-name header; real ones have some hundred
_EXTENDED_IN_A_ROW = 4  # a global and a local pax header, a long name, one more
_ZERO = bytes(BLOCK_BYTES)
_FILE, _DIRECTORY = (b"0", b"\0", b"7"), b"5"
_REFUSED = {
    b"1": "is a hard link; pack with tar --hard-dereference",
    b"2": "is a symbolic link; pack with tar --dereference",
    b"3": "is a character device",
    b"4": "is a block device",
    b"6": "is a named pipe",
    b"S": "is a sparse file; pack without --sparse",
    b"K": "is a link; pack with tar --dereference",
}


class Source(Protocol):
    """Where the tar's bytes come from."""

    def read(self, size_bytes: int) -> bytes:
        """Exactly so many; fewer only at the end."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A file or directory; `name` is as the archive has it, not judged yet."""

    name: bytes
    size_bytes: int
    is_directory: bool


class TarMembers:
    """Iterate to get members; read each file's `content` before asking for the next member."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __iter__(self) -> Iterator[Member]:
        """Yields the members. Ends only after the end mark and the end of the stream were seen."""
        while (member := self._next()) is not None:
            yield member
        while data := self._source.read(READ_BYTES):  # to the end, so that the checksum is checked
            if data.strip(b"\0"):
                raise ArtifactRefused(
                    "The archive goes on behind its end mark; was it joined from several?"
                )

    def content(self, member: Member) -> Iterator[bytes]:
        """The bytes of a file, in pieces of READ_BYTES at most."""
        left = member.size_bytes
        while left:
            data = self._exactly(min(left, READ_BYTES))
            left -= len(data)
            yield data
        self._exactly(-member.size_bytes % BLOCK_BYTES)

    def _next(self) -> Member | None:
        records: dict[bytes, bytes] = {}
        for _ in range(_EXTENDED_IN_A_ROW + 1):
            block = self._exactly(BLOCK_BYTES)
            if block == _ZERO:
                if records or self._exactly(BLOCK_BYTES) != _ZERO:
                    raise ArtifactRefused("The archive is damaged: it has a lone zero block.")
                return None
            header = parse_header(block)
            if header.kind in b"xgL":
                records |= self._extended(header)
            else:
                return _member(header, records)
        raise ArtifactRefused("The archive is damaged: too many extended headers before a member.")

    def _extended(self, header: Header) -> dict[bytes, bytes]:
        if header.size_bytes > _EXTENDED_BYTES:
            raise ArtifactRefused(
                f"The archive has an over-long header ({header.size_bytes} bytes)."
            )
        payload = self._exactly(header.size_bytes)
        self._exactly(-header.size_bytes % BLOCK_BYTES)
        if header.kind == b"L":
            return {b"path": payload.partition(b"\0")[0]}
        records = parse_pax(payload)
        if any(key.startswith(b"GNU.sparse") for key in records):
            raise ArtifactRefused("The archive holds a sparse file; pack without --sparse.")
        if header.kind == b"g":  # about no member: git archive's comment and the like
            return {}
        return records

    def _exactly(self, size_bytes: int) -> bytes:
        data = self._source.read(size_bytes) if size_bytes else b""
        if len(data) < size_bytes:
            raise ArtifactRefused(
                "The archive is cut short: its end mark (two zero blocks) is missing."
            )
        return data


def _member(header: Header, records: dict[bytes, bytes]) -> Member:
    name = records.get(b"path", header.name)
    size_bytes = header.size_bytes
    if b"size" in records:
        size_bytes = parse_decimal(records[b"size"], name)
    if header.kind != _DIRECTORY and header.kind not in _FILE:
        reason = _REFUSED.get(header.kind, f"has the unknown type {shown(header.kind)}")
        raise ArtifactRefused(
            f"Member {shown(name)} {reason}; an archive may hold files and directories only."
        )
    is_directory = header.kind == _DIRECTORY or name.endswith(b"/")
    if is_directory and size_bytes:
        raise ArtifactRefused(f"Member {shown(name)} is a directory with content.")
    return Member(name=name, size_bytes=size_bytes, is_directory=is_directory)

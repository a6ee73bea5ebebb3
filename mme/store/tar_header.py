"""One tar header: 512 bytes in, kind, name and size out; and the records of a pax header. Pure.

Reads the old v7 form, ustar, GNU and pax, which is what every tar writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mme.errors import ArtifactRefused

BLOCK_BYTES = 512
_CHECKSUM = slice(148, 156)
_USTAR = b"ustar\x00"  # GNU tar writes "ustar  " and keeps other things where ustar has the prefix
_SHOWN = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a header says of the member behind it."""

    kind: bytes  # the type flag, one byte
    name: bytes
    size_bytes: int


def shown(name: bytes) -> str:
    """A member's name fit for a message: escaped, quoted, cut."""
    text = name[: 4 * _SHOWN].decode("utf-8", "backslashreplace").encode("unicode_escape").decode()
    return f"'{text[:_SHOWN]}...'" if len(text) > _SHOWN else f"'{text}'"


def parse_header(block: bytes) -> Header:
    """Reads a block of 512 bytes. Raises ArtifactRefused where it is no tar header."""
    _check_sum(block)
    name = _text(block[0:100])
    if block[257:263] == _USTAR and (prefix := _text(block[345:500])):
        name = prefix + b"/" + name
    return Header(kind=block[156:157], name=name, size_bytes=_number(block[124:136], name))


def parse_pax(payload: bytes) -> dict[bytes, bytes]:
    """Reads the `length key=value` records of a pax header, the last of a key winning.

    Raises:
        ArtifactRefused: not in that form.
    """
    records: dict[bytes, bytes] = {}
    rest = payload
    while rest.strip(b"\0"):
        length, blank, _ = rest.partition(b" ")
        if not blank or not length.isdigit() or len(length) > 10:  # noqa: PLR2004 - digits: far over any real record
            raise ArtifactRefused("The archive is damaged: a pax header is malformed.")
        record, rest = rest[len(length) + 1 : int(length)], rest[int(length) :]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise ArtifactRefused("The archive is damaged: a pax header is malformed.")
        records[key] = value[:-1]
    return records


def parse_decimal(value: bytes, name: bytes) -> int:
    """Reads the size a pax header gives. Raises ArtifactRefused."""
    if not value.isdigit() or len(value) > 20:  # noqa: PLR2004 - digits of 2**64
        raise ArtifactRefused(f"Member {shown(name)} has an impossible size.")
    return int(value)


def _check_sum(block: bytes) -> None:
    said = block[_CHECKSUM].strip(b" \0")
    blanked = block[:148] + b" " * 8 + block[156:]
    if not said or said.strip(b"01234567") or int(said, 8) not in _sums(blanked):
        raise ArtifactRefused(
            "The object is no tarball, or is damaged: a header's checksum is wrong."
        )


def _sums(block: bytes) -> Iterator[int]:
    unsigned = sum(block)
    yield unsigned
    yield unsigned - 256 * sum(byte >= 0x80 for byte in block)  # noqa: PLR2004 - as some old tars wrote


def _number(field: bytes, name: bytes) -> int:
    if field[0] == 0x80:  # noqa: PLR2004 - GNU's form for what octal digits can't hold
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip(b" ")
    if digits.strip(b"01234567"):
        raise ArtifactRefused(f"Member {shown(name)} has an impossible size.")
    return int(digits or b"0", 8)


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]

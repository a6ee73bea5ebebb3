"""What differs between a client's requests: the values of a few headers, and where they stand.

Decision: SDKs that sign give each request a time, a signature and an id of its own, and proxies an
id; the rest of a head recurs. A shape is how one client writes those headers, in their order: with
their values cut out, its heads are the same bytes again. What is cut out holds no line break, so
the head that is found says all that this one says but these values. Rejected: to cut by name in
whatever order, which takes as long as the parser.
"""

from __future__ import annotations

from typing import TypeAlias

from multidict import CIMultiDictProxy, MultiMapping, istr

_SIGNED, _AUTHORIZATION = istr("X-Amz-Date"), istr("Authorization")
_VARYING = {
    name.lower().encode(): name
    for name in (
        _SIGNED,
        _AUTHORIZATION,  # of who signs: a token stays
        istr("X-Amz-Content-Sha256"),
        istr("Amz-Sdk-Invocation-Id"),
        istr("X-Amzn-Trace-Id"),
        istr("X-Request-Id"),
    )
}
_LINE = b"\r\n"

Shape: TypeAlias = tuple[tuple[bytes, istr], ...]
"""Of each header: the bytes from the end of the line before up to its value; its name."""


def shape_of(came: bytes, headers: CIMultiDictProxy[str]) -> Shape | None:
    """How a head that was read writes what differs; None: it can't be cut.

    Args:
        came: the head's bytes.
        headers: what the parser made of it.
    """
    shape, names = [], varying(headers)
    for line in came.split(_LINE)[1:]:
        written, _, value = line.partition(b": ")
        name = _VARYING.get(written.lower())
        if name in names:
            if headers.getall(name) != [_text(value)]:
                return None
            shape.append((_LINE + written + b": ", name))
    return tuple(shape) if len(shape) == len(names) else None


def varying(headers: MultiMapping[str]) -> set[istr]:
    """Which of a request's headers differ from one to the next."""
    names = {name for name in _VARYING.values() if name in headers}
    return names if _SIGNED in names else names - {_AUTHORIZATION}


def cut(came: bytes, shape: Shape) -> tuple[bytes, dict[str, str]] | None:
    """A head without what differs, and that by its names; None: it has another shape."""
    kept: list[bytes] = []
    values: dict[str, str] = {}
    last = 0
    for prefix, name in shape:
        at = came.find(prefix, last)
        if at < 0:
            return None
        at += len(prefix)
        end = came.find(_LINE, at)
        value = _text(came[at:end])
        if value is None:
            return None
        kept.append(came[last:at])
        values[name] = value
        last = end
    kept.append(came[last:])
    return b"".join(kept), values


def _text(value: bytes) -> str | None:
    """A value as the parser reads it; None: only the parser knows."""
    if not value.isascii():
        return None
    text = value.decode()
    return text if text.isprintable() and text == text.strip() else None

"""HTTP/2 frames by hand, for clients that behave as no library's does."""

from __future__ import annotations

SERVICE = "/inference.GRPCInferenceService/"
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
_INITIAL_WINDOW = 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    head = len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4)
    return head + payload


def hello(window_bytes: int = 65535) -> bytes:
    """What a client begins with, which takes so much of each answer."""
    settings = _INITIAL_WINDOW.to_bytes(2) + window_bytes.to_bytes(4)
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, settings)


def call(stream: int, method: str, **metadata: str) -> bytes:
    """The head of a call, which its message is to follow."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": SERVICE + method,
        ":authority": "x",
        "te": "trailers",
        "content-type": "application/grpc",
        **metadata,
    }
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())
    return frame(HEADERS, END_HEADERS, stream, block)


def message(stream: int, data: bytes) -> bytes:
    """A call's only message, whole."""
    return frame(DATA, END_STREAM, stream, b"\0" + len(data).to_bytes(4) + data)


def _text(value: str) -> bytes:
    """A text as HPACK has it, of any length, not compressed."""
    data = value.encode()
    left, length = len(data) - 127, bytes([min(127, len(data))])
    while left >= 0:
        length += bytes([left & 127 | (128 if left > 127 else 0)])
        left = (left >> 7) or -1
    return length + data

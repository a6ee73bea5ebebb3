"""What is fuzzed: each takes any bytes, and raises where a parser did what it never may.

A parser gives its own error or a sound result: whatever else it raises comes through here.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from aiohttp.http_exceptions import HttpProcessingError
from google.protobuf.message import DecodeError
from multidict import CIMultiDict

from loaders.codecs import DECODERS, decode
from loaders.content_types import ContentType
from loaders.contract import Answer, BadPayload, ModelFault, Payload, UnsupportedContentType
from loaders.oip import predict_any
from loaders.signatures import Signature, TensorSpec
from mme.config import DiskConfig
from mme.domain import ModelKey
from mme.errors import ArtifactRefused, InvalidRequest, ModelMissing
from mme.front.heads import Heads
from mme.front.held_back import is_without_body
from mme.front.oip_messages import MESSAGES
from mme.front.oip_tensors import write_body
from mme.front.oip_wire import OIP_TYPE, read_infer, read_model, read_options
from mme.front.wire import read_invocation
from mme.workers.protocol import (
    FrameBuffer,
    ProtocolError,
    decode_from_worker,
    decode_to_worker,
    encode,
)
from tests.parsed_heads import parsed, said
from tests.unpacking import tree, unpacked

UNPACKED_LIMIT_BYTES = 1_000_000
_BLOCK, _SIZE, _SUM = 512, slice(124, 136), slice(148, 156)
_SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
_CODECS = sorted(DECODERS)
_SERVER_FAULT = 500


def check_archive(blob: bytes, limit_bytes: int = UNPACKED_LIMIT_BYTES) -> None:
    """Refused, with nothing left, or within its directory and no larger than the limit."""
    limits = DiskConfig(unpacked_limit_bytes=UNPACKED_LIMIT_BYTES)
    with tempfile.TemporaryDirectory(dir=_SCRATCH) as scratch:
        directory = Path(scratch) / "inner"
        try:
            unpacked(blob, directory, limits=limits)
        except ArtifactRefused:
            assert list(Path(scratch).iterdir()) == []
            return
        assert list(Path(scratch).iterdir()) == [directory]
        assert sum(len(data) for data in tree(directory).values() if data) <= limit_bytes


def check_invocation(fields: Iterable[tuple[str, str]], body: bytes) -> None:
    """An invocation of a safe name, or an invalid request."""
    with contextlib.suppress(InvalidRequest):
        read = read_invocation(
            CIMultiDict(fields), request_id="r", endpoint="e", body=body, deadline=1.0
        )
        assert read.body == body
        assert read.target_model is None or _is_safe(read.target_model)


def check_framing(lengths: Sequence[str], kind: str, body: bytes) -> None:
    """Tensors whose header is within the body, or an invalid request."""
    headers = CIMultiDict([("Inference-Header-Content-Length", value) for value in lengths])
    headers["Content-Type"] = kind
    with contextlib.suppress(InvalidRequest):
        read = read_infer(
            headers, ModelKey("m"), request_id="r", endpoint="e", body=body, deadline=1.0
        )
        if lengths:
            assert int(read.content_type.rpartition("=")[2]) <= len(body)


def check_path(path: str) -> None:
    """A safe name, or refused."""
    with contextlib.suppress(InvalidRequest, ModelMissing):
        assert _is_safe(read_model(f"/v2/models/{path}", "/infer"))


def check_options(body: bytes) -> None:
    """An object, or an invalid request."""
    with contextlib.suppress(InvalidRequest):
        assert isinstance(read_options(body), dict)


def check_grpc(data: bytes) -> None:
    """A request of gRPC's is no message, or invalid, or a body that says how it is framed."""
    with contextlib.suppress(DecodeError, InvalidRequest):
        body, kind = write_body(MESSAGES["ModelInferRequest"].FromString(data))
        check_tensors(body, kind)


def check_tensors(body: bytes, kind: str) -> None:
    """A request of tensors is answered with the same, or it is the client's fault."""
    found = predict_any(_ECHO, "m", [Payload(body, kind)])[0]  # type: ignore[arg-type]
    if isinstance(found, ModelFault):
        assert found.status < _SERVER_FAULT, found
    else:
        assert isinstance(found, Answer)


def check_frames(first: bytes, then: bytes = b"") -> None:
    """Messages, which are the same when they are written again, or a protocol error."""
    buffer = FrameBuffer()
    with contextlib.suppress(ProtocolError):
        frames = buffer.feed(first) + buffer.feed(then)
        for frame in frames:
            for read in (decode_to_worker, decode_from_worker):
                with contextlib.suppress(ProtocolError):
                    assert len(FrameBuffer().feed(encode(read(frame)))) == 1


def check_payload(name: str, body: bytes) -> None:
    """An array, or a fault of the payload."""
    with contextlib.suppress(UnsupportedContentType, BadPayload):
        array = decode(body, ContentType(name=name))
        assert array.nbytes == math.prod(array.shape) * array.itemsize


def _unpack(data: bytes) -> None:
    is_plain = len(data) % _BLOCK == 0 and not data.startswith(_COMPRESSED)
    check_archive(_with_right_sums(data) if is_plain else data)


def _with_right_sums(archive: bytes) -> bytes:
    """A tar whose headers were bent, with the check sums that they should have."""
    blocks, place = bytearray(archive), 0
    while place + _BLOCK <= len(blocks) and blocks[place]:
        header = blocks[place : place + _BLOCK]
        header[_SUM] = b" " * 8
        header[_SUM] = b"%06o\0 " % sum(header)
        blocks[place : place + _BLOCK] = header
        size = re.match(rb"[0-7]{1,11}", header[_SIZE])
        place += _BLOCK * (1 + -(-int(size[0] if size else b"0", 8) // _BLOCK))
    return bytes(blocks)


def _wire(data: bytes) -> None:
    head, _, body = data.partition(b"\n\n")
    path, *lines = head.decode("utf-8", "surrogateescape").split("\n")
    fields = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    check_path(path)
    check_options(body)
    check_invocation(fields, body)
    lengths = [value for name, value in fields if name == "Inference-Header-Content-Length"]
    check_framing(lengths, dict(fields).get("Content-Type", ""), body)


def _protocol(data: bytes) -> None:
    middle = data[0] if data else 0
    check_frames(data[1:middle], data[max(1, middle) :])
    message = data[5:]  # with the length that it has
    check_frames(len(message).to_bytes(4, "big") + message)


def _codecs(data: bytes) -> None:
    kind, _, body = data.partition(b"\n")
    if kind == b"grpc":
        check_grpc(body)
    elif kind.startswith(b"oip"):
        size = kind[3:].decode("latin-1") or len(body)  # none is said: it is all JSON
        check_tensors(body, f"{OIP_TYPE};json-header-size={size}")
    elif (name := kind.decode("latin-1")) in DECODERS:
        check_payload(name, body)
    else:
        check_payload(_CODECS[len(kind) % len(_CODECS)], body)


class _Echo:
    """Gives what it is given."""

    def signature(self) -> Signature:
        return Signature(inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, 2)),))

    def infer(self, feeds: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        assert all(isinstance(array, np.ndarray) for feed in feeds for array in feed.values())
        return feeds


def check_heads(first: bytes, then: bytes) -> None:
    """Once `first` was read, `then` is found only as the parser reads it, and is whole if it is."""
    heads = Heads()
    with contextlib.suppress(HttpProcessingError):
        shape = heads.learn(first, parsed(first))
        if shape is not None and (found := heads.find(then, shape)) is not None:
            [(head, content)] = parsed(then)
            assert said(found[0]) == said(head)
            assert content.is_eof()
            assert found[1] == content.read_nowait()
        if is_without_body(then):
            assert not [content for _, content in parsed(then) if content.is_eof()]


def _heads(data: bytes) -> None:
    first, _, then = data.partition(b"\x1e")
    check_heads(first, then)


def _is_safe(key: str) -> bool:
    return key.isprintable() and {"", ".", ".."}.isdisjoint(key.split("/"))


_ECHO = SimpleNamespace(tensors=_Echo())
TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "unpack": _unpack,
    "wire": _wire,
    "protocol": _protocol,
    "codecs": _codecs,
    "heads": _heads,
}
"""Name -> what takes any bytes; a folder of `corpus/` for each."""

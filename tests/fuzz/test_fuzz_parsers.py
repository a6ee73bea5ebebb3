"""Headers, tensors' framing, workers' frames and payloads: bent, cut and joined at random."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from loaders.codecs import DECODERS, ENCODERS, decode
from loaders.content_types import ContentType
from loaders.contract import BadPayload, UnsupportedContentType
from mme.domain import ModelKey
from mme.errors import InvalidRequest, ModelMissing
from mme.front.oip_wire import OIP_TYPE, read_infer, read_model, read_options
from mme.front.wire import read_invocation
from mme.workers.protocol import (
    Absent,
    Answered,
    Ask,
    Faulted,
    FrameBuffer,
    Load,
    Predict,
    Predicted,
    ProtocolError,
    Recall,
    decode_from_worker,
    decode_to_worker,
    encode,
)
from tests.fuzz.depth import examples

HEADERS = [
    "X-Amzn-SageMaker-Target-Model", "X-Amzn-SageMaker-Custom-Attributes", "Content-Type",
    "Accept", "X-Amzn-SageMaker-Inference-Id", "X-Amzn-SageMaker-Target-Variant",
    "X-Amzn-SageMaker-Enable-Explanations", "X-Amzn-SageMaker-Session-Id",
]  # fmt: skip
VALUE = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(["..", ".", "/", "a", "%2e", "\\", "s3://", " ", "\0", "\udcff"])).map(
        "".join
    ),
)
FIELDS = st.lists(st.tuples(st.sampled_from(HEADERS), VALUE), max_size=6)


def is_safe(key: str) -> bool:
    return key.isprintable() and {"", ".", ".."}.isdisjoint(key.split("/"))


@examples
@given(FIELDS, st.binary(max_size=50))
@example([("X-Amzn-SageMaker-Target-Model", "a/../b")], b"")
@example([("X-Amzn-SageMaker-Target-Model", "\udcff")], b"")
@example([("Accept", "a\r\nb: c")], b"")
def test_any_headers_are_an_invocation_of_a_safe_name_or_an_invalid_request(fields, body):
    with contextlib.suppress(InvalidRequest):
        read = read_invocation(
            CIMultiDict(fields), request_id="r", endpoint="e", body=body, deadline=1.0
        )
        assert read.body == body
        assert read.target_model is None or is_safe(read.target_model)


@examples
@given(
    st.lists(VALUE | st.integers(-5, 99).map(str), max_size=2),
    st.sampled_from(["", "application/json", OIP_TYPE]),
    st.binary(max_size=99),
)
@example(["9" * 5000], "", b"{}")  # more digits than `int` takes
@example(["-1"], "", b"{}")
@example(["\u0663"], "", b"abcde")  # a digit, but no ASCII one
def test_any_framing_of_tensors_stays_within_the_body_or_is_refused(lengths, kind, body):
    headers = CIMultiDict([("Inference-Header-Content-Length", value) for value in lengths])
    headers["Content-Type"] = kind
    with contextlib.suppress(InvalidRequest):
        read = read_infer(
            headers, ModelKey("m"), request_id="r", endpoint="e", body=body, deadline=1.0
        )
        if lengths:
            assert int(read.content_type.rpartition("=")[2]) <= len(body)


@examples
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(st.sampled_from(["/versions/", "1", "%2f", "%2e", "%", "/", "%ff", "a"])).map(
            "".join
        ),
    )
)
@example("%2e%2e%2fa")
@example("a/versions/%31/infer")
def test_any_path_is_a_safe_name_or_refused(path):
    with contextlib.suppress(InvalidRequest, ModelMissing):
        assert is_safe(read_model(f"/v2/models/{path}", "/infer"))


@examples
@given(st.binary(max_size=200) | st.text('[]{}",:0e-+.\\ud8', max_size=200).map(str.encode))
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
def test_any_options_are_an_object_or_an_invalid_request(body):
    with contextlib.suppress(InvalidRequest):
        assert isinstance(read_options(body), dict)


MESSAGES = [
    encode(Predict(1, "m", [Ask(b"1,2", "text/csv", None, "x")])),
    encode(Load(2, "m", "name", "/d")),
    encode(Recall("m", "name", "content", 4096, ["a", "b"])),
    encode(Absent(3)),
    encode(Predicted(1, 0.1, [Answered(b"3", "text/csv"), Faulted(400, "no")])),
]


@examples
@given(
    st.lists(st.sampled_from(MESSAGES), min_size=1, max_size=4).map(b"".join),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    st.integers(0, 400),
)
def test_bent_frames_are_messages_or_a_protocol_error(stream, bends, cut):
    bent = bytearray(stream)
    for place, value in bends:
        bent[place % len(bent)] = value
    buffer = FrameBuffer()
    with contextlib.suppress(ProtocolError):
        frames = buffer.feed(bytes(bent[:cut])) + buffer.feed(bytes(bent[cut:]))
        for frame in frames:
            for read in (decode_to_worker, decode_from_worker):
                with contextlib.suppress(ProtocolError):
                    again = FrameBuffer().feed(encode(read(frame)))
                    assert len(again) == 1


@examples
@given(st.sampled_from([decode_to_worker, decode_from_worker]), st.integers(1, 200_000))
@example(decode_to_worker, 200_000)
def test_nested_arrays_are_a_protocol_error(read, depth):
    with pytest.raises(ProtocolError):
        read(b"\x91" * depth)


WHOLE = {name: encoded(np.array([[1.5, -2.0], [0.0, 3e9]])) for name, encoded in ENCODERS.items()}


@pytest.mark.parametrize("name", sorted(WHOLE.keys() & DECODERS.keys()))
@examples
@given(
    bends=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=4)), min_size=1, max_size=5),
    cut=st.integers(0, 400),
)
def test_a_bent_payload_is_an_array_or_a_fault_of_the_payload(name, bends, cut):
    body = WHOLE[name]
    for place, piece in bends:
        place %= len(body) + 1  # noqa: PLW2901 - within what is there
        body = body[:place] + piece + body[place + len(piece) :]
    with contextlib.suppress(UnsupportedContentType, BadPayload):
        array = decode(body[: cut or None], ContentType(name=name))
        assert array.nbytes == math.prod(array.shape) * array.itemsize

"""Headers, tensors' framing, workers' frames and payloads: bent, cut and joined at random."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loaders.codecs import DECODERS, ENCODERS
from mme.front.oip_wire import OIP_TYPE
from mme.workers.protocol import (
    Absent,
    Answered,
    Ask,
    Faulted,
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
from tests.fuzz.targets import (
    check_frames,
    check_framing,
    check_invocation,
    check_options,
    check_path,
    check_payload,
)

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


@examples
@given(FIELDS, st.binary(max_size=50))
@example([("X-Amzn-SageMaker-Target-Model", "a/../b")], b"")
@example([("X-Amzn-SageMaker-Target-Model", "\udcff")], b"")
@example([("Accept", "a\r\nb: c")], b"")
def test_any_headers_are_an_invocation_of_a_safe_name_or_an_invalid_request(fields, body):
    check_invocation(fields, body)


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
    check_framing(lengths, kind, body)


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
    check_path(path)


@examples
@given(st.binary(max_size=200) | st.text('[]{}",:0e-+.\\ud8', max_size=200).map(str.encode))
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
def test_any_options_are_an_object_or_an_invalid_request(body):
    check_options(body)


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
    check_frames(bytes(bent[:cut]), bytes(bent[cut:]))


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
    check_payload(name, body[: cut or None])

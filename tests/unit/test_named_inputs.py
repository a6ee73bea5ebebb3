"""Payloads for models of named inputs: TensorFlow Serving's forms, declared types, nothing else."""

from __future__ import annotations

import json
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.contract import BadPayload, ModelFault, Payload, UnsupportedContentType
from loaders.input_specs import TEXT, InputSpec
from loaders.named_inputs import read_inputs

FLOAT, INT, BOOL = np.dtype("f4"), np.dtype("i8"), np.dtype("?")
X = InputSpec(name="x", dtype=FLOAT, shape=(None, 2))
N = InputSpec(name="n", dtype=INT, shape=(None,))
PAIR = (X, N)


def read(document: object, *specs: InputSpec, content_type: str | None = None):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    request = read_inputs(Payload(body, content_type), specs)
    return {name: array.tolist() for name, array in request.feed.items()}


def npy(array: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "document",
    [
        {"instances": [{"x": [1, 2], "n": 3}, {"n": 4, "x": [5, 6]}]},
        {"inputs": {"n": [3, 4], "x": [[1, 2], [5, 6]]}},
        {"signature_name": "serving_default", "inputs": {"n": [3, 4], "x": [[1, 2], [5, 6]]}},
        [{"x": [1, 2], "n": 3}, {"x": [5, 6], "n": 4}],
        b'{"x": [1, 2], "n": 3}\n{"x": [5, 6], "n": 4}\n',
    ],
)
def test_several_inputs_are_named_by_rows_or_by_inputs(document):
    assert read(document, *PAIR) == {"x": [[1, 2], [5, 6]], "n": [3, 4]}


def test_one_object_is_one_instance_and_jsonlines_has_one_a_line():
    assert read({"x": [1, 2], "n": 3}, *PAIR) == {"x": [[1, 2]], "n": [3]}
    lines = b'{"x": [1, 2], "n": 3}\n\n{"x": [5, 6], "n": 4}'
    found = read(lines, *PAIR, content_type="application/jsonlines")
    assert found == {"x": [[1, 2], [5, 6]], "n": [3, 4]}


@pytest.mark.parametrize(
    "document",
    [
        [[1, 2]],
        [1, 2],
        {"instances": [[1, 2]]},
        {"instances": [1, 2]},
        {"instances": [{"x": [1, 2]}]},
        {"instances": [{"features": [1, 2]}]},
        {"inputs": [[1, 2]]},
        {"inputs": {"x": [[1, 2]]}},
    ],
)
def test_a_single_input_needs_no_name_and_one_instance_no_brackets(document):
    assert read(document, X) == {"x": [[1, 2]]}
    assert read(document, InputSpec(name="x", dtype=INT, shape=(None, 2))) == {"x": [[1, 2]]}


@pytest.mark.parametrize("dtype", [FLOAT, INT, np.dtype("f8"), np.dtype("u1")])
def test_csv_and_npy_become_the_declared_type(dtype):
    spec = InputSpec(name="x", dtype=dtype, shape=(None, 2))
    for body, content_type in (
        (b"1,2\n3,4", "text/csv"),
        (b'"1","2"\r\n3,4\r\n', "text/csv") if dtype.kind != "f" else (b"1, 2\n3,4\n", "text/csv"),
        (npy(np.array([[1.0, 2.0], [3.0, 4.0]])), "application/x-npy"),
    ):
        [array] = read_inputs(Payload(body, content_type), [spec]).feed.values()
        assert array.dtype == dtype
        assert array.tolist() == [[1, 2], [3, 4]]


def test_integers_keep_digits_that_a_float_would_lose():
    large = 2**62 + 1
    assert read([large], N) == {"n": [large]}
    assert read(f"{large}\n5".encode(), N, content_type="text/csv") == {"n": [large, 5]}


def test_a_column_of_csv_is_a_list_where_the_model_takes_one():
    assert read(b"1\n2\n3", N, content_type="text/csv") == {"n": [1, 2, 3]}


@pytest.mark.parametrize("value", [1.5, 2**70, "1.5", "a", None, [1], 1e300, {"a": 1}])
def test_what_is_no_integer_is_refused_for_an_integer(value):
    with pytest.raises((BadPayload, UnsupportedContentType)):
        read([value, 1], N)


def test_an_integer_out_of_its_types_range_is_refused():
    for value in (300, -1):
        with pytest.raises((BadPayload, UnsupportedContentType)):
            read([value], InputSpec(name="n", dtype=np.dtype("u1"), shape=(None,)))


def test_booleans_are_true_false_one_and_zero():
    spec = InputSpec(name="b", dtype=BOOL, shape=(None,))
    assert read([True, False, 1, 0], spec) == {"b": [True, False, True, False]}
    for value in (2, "false", None, 0.5):
        with pytest.raises((BadPayload, UnsupportedContentType)):
            read([value], spec)


def test_texts_are_texts_only_and_bytes_where_the_model_takes_them():
    text = InputSpec(name="t", dtype=TEXT, shape=(None,))
    assert read(["a", "é"], text) == {"t": ["a", "é"]}
    assert read('"a, b"\né'.encode(), text, content_type="text/csv") == {"t": ["a, b", "é"]}
    binary = InputSpec(name="t", dtype=TEXT, shape=(None,), binary=True)
    assert read([{"b64": "/w=="}, "a"], binary) == {"t": [b"\xff", "a"]}
    assert read({"instances": [{"t": {"b64": "/w=="}}]}, binary) == {"t": [b"\xff"]}
    for spec, value in ((text, 1), (text, None), (text, {"b64": "/w=="}), (binary, {"b64": "?"})):
        with pytest.raises((BadPayload, UnsupportedContentType)):
            read({"inputs": [value]}, spec)


def test_missing_numbers_are_nan_where_the_model_takes_floats():
    [[row]] = read({"inputs": {"x": [[None, 2]]}}, X).values()
    assert np.isnan(row[0])
    assert row[1] == 2


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"instances": [{"x": [1, 2]}]}, "inputs are x, n; given: x."),
        ({"inputs": {"x": [[1, 2]], "n": [1], "z": 1}}, "given: x, n, z."),
        ([[1, 2]], r"several inputs \(x, n\)"),
        ({"inputs": {"x": [[1, 2, 3]], "n": [1]}}, "2"),
        ({"inputs": {"x": [[1, 2]], "n": [[1]]}}, r"n is of shape \[any\], given \[1, 1\]"),
        ({"inputs": {"x": [[]], "n": [1]}}, "empty"),
    ],
)
def test_wrong_names_and_shapes_are_told(document, told):
    with pytest.raises(BadPayload, match=told):
        read(document, *PAIR)


def test_formats_without_names_are_refused_for_several_inputs():
    with pytest.raises(BadPayload, match="by name as JSON"):
        read(b"1,2", *PAIR, content_type="text/csv")


def test_instances_that_differ_in_their_inputs_are_refused():
    for second in ({"x": [1, 2]}, {"x": [1, 2], "n": 1, "m": 2}, [1]):
        with pytest.raises(ModelFault):
            read([{"x": [1, 2], "n": 1}, second], *PAIR)


def test_optional_inputs_may_be_named_and_the_other_needs_no_name():
    bias = InputSpec(name="bias", optional=True)
    assert read([[1, 2]], X, bias) == {"x": [[1, 2]]}
    assert read(b"1,2", X, bias, content_type="text/csv") == {"x": [[1, 2]]}
    assert read({"inputs": {"x": [[1, 2]], "bias": [3]}}, X, bias) == {"x": [[1, 2]], "bias": [3]}


def test_an_undeclared_input_takes_any_shape_of_numbers():
    spec = InputSpec(name="x")
    assert read([1], spec) == {"x": [1]}
    assert read({"inputs": {"x": [[[1]]]}}, spec) == {"x": [[[1]]]}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["x", "n", "inputs", "instances", "b64"]), inner)
    ),
    max_leaves=12,
)
SPECS = st.lists(
    st.builds(
        InputSpec,
        name=st.sampled_from(["x", "n", "inputs"]),
        dtype=st.sampled_from([FLOAT, INT, BOOL, TEXT, None]),
        shape=st.sampled_from([None, (None,), (None, 2), (1, 2)]),
        optional=st.booleans(),
        binary=st.booleans(),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda spec: spec.name,
)


@given(document=JSON, specs=SPECS, lines=st.booleans())
def test_any_json_is_read_as_declared_or_is_a_fault(document, specs, lines):
    kind = "application/jsonlines" if lines else "application/json"
    try:
        request = read_inputs(Payload(json.dumps(document).encode(), kind), specs)
    except ModelFault:
        return
    by_name = {spec.name: spec for spec in specs}
    assert {spec.name for spec in specs if not spec.optional} <= set(request.feed) <= set(by_name)
    for name, array in request.feed.items():
        assert array.size
        assert by_name[name].dtype in {None, array.dtype}
        assert by_name[name].shape is None or len(by_name[name].shape) == array.ndim


@given(body=st.binary(), specs=SPECS, kind=st.sampled_from(["text/csv", "application/x-npy", None]))
def test_garbage_is_read_as_declared_or_is_a_fault(body, specs, kind):
    try:
        request = read_inputs(Payload(body, kind), specs)
    except ModelFault:
        return
    assert all(array.size for array in request.feed.values())

"""Codecs: what goes in comes out, and garbage is a fault of the payload, never an exception."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from loaders.codecs import DECODERS, ENCODERS, csv_line, decode, encode_npy
from loaders.content_types import ContentType
from loaders.contract import BadPayload, UnsupportedContentType
from loaders.sparse import Gaps

FLOATS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(width=32, allow_infinity=False),
)


def read(name: str, body: bytes, charset: str = "utf-8") -> np.ndarray:
    return decode(body, ContentType(name=name, charset=charset))


def read_libsvm(body: bytes, width: int) -> np.ndarray:
    return decode(body, ContentType(name="libsvm"), Gaps(width=width))


@pytest.mark.parametrize("name", ["csv", "json", "jsonlines", "npy"])
@given(array=FLOATS)
def test_what_was_encoded_is_decoded_to_the_same_numbers(name, array):
    np.testing.assert_array_equal(read(name, ENCODERS[name](array)), array)


@pytest.mark.parametrize("name", sorted(DECODERS))
@given(
    body=st.one_of(
        st.binary(), st.text(alphabet='[]{}",:.-0123456789eNaInf \n;\t_').map(str.encode)
    )
)
def test_garbage_gives_an_array_or_a_fault(name, body):
    with suppress(UnsupportedContentType):
        assert isinstance(read(name, body), np.ndarray)


@given(body=st.one_of(st.binary(), st.text(alphabet="0123456789:.- \nqid#e").map(str.encode)))
def test_libsvm_garbage_gives_rows_of_the_width_or_a_fault(body):
    with suppress(UnsupportedContentType, BadPayload):
        assert read_libsvm(body, 4).shape[1] == 4


@given(body=st.binary(max_size=64))
def test_an_npy_header_of_garbage_is_a_fault(body):
    prefix = b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little")
    with pytest.raises(UnsupportedContentType):
        read("npy", prefix + body)


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b"1,2,3", [[1, 2, 3]]),
        (b"1,2\n3,4\n", [[1, 2], [3, 4]]),
        (b"1,2\r\n3,4\r\n", [[1, 2], [3, 4]]),
        (b"1,,3\n,5,", [[1, np.nan, 3], [np.nan, 5, np.nan]]),
        (b"nan,+1,.5,1e2,01", [[np.nan, 1, 0.5, 100, 1]]),
        (b" 1 , 2 ", [[1, 2]]),
        (b"7", [[7]]),
        (b"1;2\n3;4", [[1, 2], [3, 4]]),
        (b"1\t2", [[1, 2]]),
        (b"1|2", [[1, 2]]),
        (b"1 2", [[1, 2]]),
    ],
)
def test_csv_is_read_as_rows_of_numbers(body, rows):
    np.testing.assert_array_equal(read("csv", body), np.array(rows, dtype=np.float64))


@pytest.mark.parametrize(
    "body",
    [b"age,name", b"1,2\n3", b"1_0", b"[1,2]", b"1,2],[3,4", b"true", b"1,2\n\n3,4", b"\xff"],
)
def test_csv_that_is_no_table_of_numbers_is_refused_in_the_images_words(body):
    with pytest.raises(UnsupportedContentType) as caught:
        read("csv", body)
    assert str(caught.value).startswith(
        "Loading csv data failed with Exception, please ensure data is in csv format:"
    )
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"[1,2]", [1, 2]),
        (b"[[1,null],[3,4]]", [[1, np.nan], [3, 4]]),
        (b"[NaN, 1]", [np.nan, 1]),
        (b'{"instances": [[1,2],[3,4]]}', [[1, 2], [3, 4]]),
        (b'{"instances": [{"features": [1,2]}, {"features": [3,4]}]}', [[1, 2], [3, 4]]),
        (b'[{"features": [1,2]}]', [[1, 2]]),
        (b'{"features": [1,2]}', [[1, 2]]),
        (b"[[[1,2],[3,4]]]", [[[1, 2], [3, 4]]]),
        (b"[1e300, 0.1]", [1e300, 0.1]),
    ],
)
def test_json_is_read_in_every_form_clients_send(body, expected):
    np.testing.assert_array_equal(read("json", body), np.array(expected, dtype=np.float64))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"rows": [1]}',
        b"[[1,2],[3]]",
        b'["a"]',
        b'[{"features": [1]}, 2]',
        b"[" * 5000 + b"]" * 5000,
        b'{"instances": {"a": 1}}',
        b"[1" + b"0" * 5000 + b"]",
    ],
)
def test_json_that_holds_no_numbers_is_refused(body):
    with pytest.raises(UnsupportedContentType):
        read("json", body)


def test_one_long_text_among_many_cells_takes_no_memory():
    with pytest.raises(UnsupportedContentType):
        read("json", b'["' + b"1" * 1_000_000 + b'"' + b',"x"' * 100_000 + b"]")


def test_jsonlines_is_one_row_a_line():
    expected = [[1, 2], [3, 4]]
    np.testing.assert_array_equal(read("jsonlines", b"[1,2]\n\n[3,4]\n"), expected)
    np.testing.assert_array_equal(
        read("jsonlines", b'{"features":[1,2]}\n{"features":[3,4]}'), expected
    )


@pytest.mark.parametrize(
    "array",
    [
        np.array(3.0),
        np.empty((0, 3)),
        np.array([True, False]),
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(24, dtype=np.float16).reshape(2, 3, 4),
    ],
)
def test_npy_keeps_shape_values_and_kind(array):
    buffer = BytesIO()
    np.save(buffer, array)
    found = read("npy", buffer.getvalue())
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize(
    "array", [np.array([{}], dtype=object), np.array(["a"]), np.array([1j]), np.zeros(1, "i4,f4")]
)
def test_npy_of_anything_but_numbers_is_refused(array):
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=True)
    with pytest.raises(UnsupportedContentType):
        read("npy", buffer.getvalue())


def test_text_answers_are_written_as_npy_without_pickles():
    body = ENCODERS["npy"](np.array(["no", "yes"], dtype=object))
    assert np.load(BytesIO(body)).tolist() == ["no", "yes"]


def test_npy_that_promises_more_than_it_holds_is_refused():
    body = ENCODERS["npy"](np.zeros((2, 3)))
    for promise in (b"(9, 3)", b"(2, 9)"):
        with pytest.raises(UnsupportedContentType, match="do not make an array"):
            read("npy", body.replace(b"(2, 3)", promise))


def test_text_in_another_charset_is_read():
    np.testing.assert_array_equal(read("csv", "1,2".encode("utf-16"), "utf-16"), [[1, 2]])
    np.testing.assert_array_equal(read("csv", b"1,2", "iso-8859-1"), [[1, 2]])


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b"0:1 2:3", [[1, np.nan, 3]]),
        (b"1:1 3:3", [[1, np.nan, 3]]),
        (b"0 1:5\n1 3:7\n", [[5, np.nan, np.nan], [np.nan, np.nan, 7]]),
        (b"0 qid:4 1:5 2:0", [[5, 0, np.nan]]),
    ],
)
def test_libsvm_counts_from_one_unless_a_zero_is_there(body, rows):
    np.testing.assert_array_equal(read_libsvm(body, 3), rows)


@pytest.mark.parametrize(
    "body", [b"1,2,3", b"1 2 3", b"1", b"a 1:2", b"1:x", b"-1:2", b"1_0:2", b"1:2 #no"]
)
def test_what_is_no_libsvm_is_not_an_empty_row(body):
    with pytest.raises(UnsupportedContentType, match="Loading libsvm data failed with Exception"):
        read_libsvm(body, 3)


def test_a_libsvm_index_beyond_the_features_is_a_mismatch():
    with pytest.raises(BadPayload, match="Feature size of libsvm inference data 4 is not"):
        read_libsvm(b"0:1 3:1", 3)


def test_nan_is_written_as_null_in_json():
    assert ENCODERS["json"](np.array([np.nan, 1], dtype=np.float32)) == b"[null,1.0]"


def test_csv_is_written_a_row_a_line_whatever_the_dimensions():
    assert ENCODERS["csv"](np.array(1.5)) == b"1.5\n"
    assert ENCODERS["csv"](np.array([1, 2])) == b"1\n2\n"
    assert ENCODERS["csv"](np.arange(8).reshape(2, 2, 2)) == b"0,1,2,3\n4,5,6,7\n"


@given(
    numbers=hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_]),
        st.integers(1, 4),
    ),
    scale=st.sampled_from([1, 1e-3, 1e-5, 1e9]),
)
def test_csv_cells_are_written_as_python_writes_them(numbers, scale):
    if numbers.dtype.kind == "f":
        with np.errstate(all="ignore"):
            numbers *= numbers.dtype.type(scale)
    assert csv_line(numbers) == ",".join(map(str, numbers.tolist())).encode()


@given(
    array=hnp.arrays(
        st.sampled_from(["<f4", ">f8", "<i8", "|b1", "|u1", "<U3"]),
        st.lists(st.integers(0, 3), max_size=3).map(tuple),
    ),
    turned=st.booleans(),
)
def test_npy_is_written_byte_for_byte_as_numpy_writes_it(array, turned):
    array = array.T if turned else array
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    assert encode_npy(array) == buffer.getvalue()

"""recordio-protobuf: what Google's protobuf writes is read, what is written Google's reads."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from loaders.codecs import decode
from loaders.content_types import ContentType
from loaders.contract import BadPayload, UnsupportedContentType
from loaders.recordio import encode_recordio
from loaders.sparse import MISSING, Gaps
from tests.recordio_reference import MAGIC, framed, read_labels, write_record

DTYPES = {"float32": np.float32, "float64": np.float64, "int32": np.int32}


def read(body: bytes, gaps: Gaps = MISSING) -> np.ndarray:
    return decode(body, ContentType(name="recordio-protobuf"), gaps)


def tables(kind: str) -> st.SearchStrategy[np.ndarray]:
    shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)
    return hnp.arrays(DTYPES[kind], shapes)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", DTYPES)
@given(data=st.data())
def test_dense_records_are_rows_of_their_own_type(kind, packed, data):
    table = data.draw(tables(kind))
    records = [write_record(row.tolist(), kind, packed=packed) for row in table]
    found = read(framed(*records))
    assert found.dtype == table.dtype
    np.testing.assert_array_equal(found, table)


@pytest.mark.parametrize("kind", DTYPES)
@given(data=st.data())
def test_every_answer_is_one_record_a_row_that_holds_only_its_own_row(kind, data):
    table = data.draw(tables(kind))
    labels = read_labels(encode_recordio(table))
    assert [list(label) for label in labels] == [["score"]] * len(table)
    found = np.array([label["score"] for label in labels], dtype=table.dtype)
    np.testing.assert_array_equal(found, table)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (np.array([1, 0]), [[1], [0]]),
        (np.array([True, False]), [[1], [0]]),
        (np.array([2**40, -(2**40)]), [[2**40], [-(2**40)]]),
        (np.array(0.5, dtype=np.float16), [[0.5]]),
        (np.zeros((2, 2, 2)), [[0, 0, 0, 0]] * 2),
    ],
)
def test_answers_of_any_number_and_shape_are_written(answers, expected):
    assert [label["score"] for label in read_labels(encode_recordio(answers))] == expected


def test_text_answers_are_written_as_bytes():
    assert b"\n\x06setosa" in encode_recordio(np.array(["setosa", "virginica"]))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", DTYPES)
def test_sparse_records_leave_out_what_is_absent(kind, packed):
    body = framed(
        write_record([7, -5], kind, packed=packed, keys=[3, 0], shape=[4]),
        write_record([], kind, packed=packed, shape=[4]),
        write_record([1, 2, 3, 4], kind, packed=packed),
    )
    nan = np.nan
    np.testing.assert_array_equal(
        read(body), [[-5, nan, nan, 7], [nan, nan, nan, nan], [1, 2, 3, 4]]
    )
    np.testing.assert_array_equal(read(body, Gaps(absent=0.0))[:2], [[-5, 0, 0, 7], [0, 0, 0, 0]])


def test_a_sparse_record_without_its_shape_has_the_models_width():
    body = framed(write_record([7], keys=[1]))
    np.testing.assert_array_equal(read(body, Gaps(width=3)), [[np.nan, 7, np.nan]])
    with pytest.raises(UnsupportedContentType, match="needs its shape"):
        read(body)


def test_the_last_records_padding_may_be_missing():
    whole = framed(write_record([1], "int32"))
    assert whole.endswith(b"\0")
    np.testing.assert_array_equal(read(whole.rstrip(b"\0")), [[1]])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"1,2,3,4,5", "no record at byte 0"),
        (framed(write_record([1]))[:6], "head is cut short"),
        (framed(write_record([1]))[:-4], "a record is cut short"),
        (MAGIC.to_bytes(4, "little") + (1 << 29).to_bytes(4, "little"), "in parts"),
        (framed(b""), "needs features"),
        (framed(b"\x0b"), "wire type 3"),
        (framed(b"\x02\x00"), "no number"),
        (framed(b"\xff" * 12), "too long"),
        (framed(write_record([1, 2]), write_record([1])), "differ in width"),
        (framed(write_record([1], keys=[4], shape=[4])), "key 4 lies beyond its 4 features"),
        (framed(write_record([1], keys=[2**63], shape=[4])), "lies beyond"),
        (framed(write_record([1, 2], keys=[1], shape=[4])), "1 keys for 2 values"),
    ],
)
def test_what_is_no_record_is_refused_in_the_images_words(body, reason):
    with pytest.raises(UnsupportedContentType, match=reason) as caught:
        read(body)
    assert str(caught.value).startswith(
        "Loading recordio-protobuf data failed with Exception, "
        "please ensure data is in recordio-protobuf format: "
    )


@pytest.mark.parametrize("width", [1 << 40, (1 << 64) - 1])
def test_a_width_that_only_the_payload_claims_takes_no_memory(width):
    with pytest.raises(BadPayload, match="too many"):
        read(framed(write_record([1], keys=[0], shape=[width])))


@given(body=st.binary(), records=st.lists(st.binary(), min_size=1))
def test_garbage_is_a_fault(body, records):
    for content in (body, framed(*records)):
        with suppress(UnsupportedContentType, BadPayload):
            assert read(content).ndim == 2


@given(
    kind=st.sampled_from(sorted(DTYPES)),
    keys=st.booleans(),
    flips=st.lists(st.tuples(st.integers(8, 40), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_flipped_bytes_are_rows_or_a_fault(kind, keys, flips):
    more = {"keys": [0, 1, 2], "shape": [3]} if keys else {}
    body = bytearray(framed(write_record([1, 2, 3], kind, **more)))
    for place, octet in flips:
        body[place % len(body)] = octet
    with suppress(UnsupportedContentType, BadPayload):
        assert read(bytes(body)).ndim == 2

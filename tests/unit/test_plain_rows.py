"""Batches of plain rows: read at once, and answered as if each payload had been alone."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.contract import Answer, Payload, read_and_run
from loaders.rows import RowPredictor

WIDTH = 2
SEEN: list[int] = []  # rows of each run


def echo(rows):
    SEEN.append(len(rows))
    return rows


PREDICTOR = RowPredictor(width=WIDTH, run=echo)


def npy(rows, kind="f4") -> bytes:
    buffer = BytesIO()
    np.save(buffer, np.array(rows, dtype=kind))
    return buffer.getvalue()


def ask(*bodies: bytes, content_type: str | None = "text/csv", accept: str | None = None):
    return [Payload(body, content_type, accept) for body in bodies]


def slowly(payloads) -> list:
    """What each gets alone, read without the short cut."""
    return [read_and_run([one], PREDICTOR._read, PREDICTOR._together)[0] for one in payloads]


def told(results) -> list:
    return [r if isinstance(r, Answer) else (type(r), str(r)) for r in results]


CELLS = ["1", "-2.5", "1e3", "", "nan", "1_0", " 4", "x", "null", "true", "[", "]", '"5"', "0x1"]
csv = st.lists(st.lists(st.sampled_from(CELLS), max_size=3).map(",".join), max_size=3).map(
    "\n".join
)
json = st.recursive(
    st.sampled_from(["1", "-2.5", "null", "true", '"5"', "1e999", "7e", "12345678901234567890"]),
    lambda inner: st.lists(inner, max_size=3).map(lambda found: f"[{','.join(found)}]"),
    max_leaves=6,
)
pieces = st.text("[],1 ", max_size=8)


@given(
    bodies=st.lists(st.one_of(csv, json, pieces, st.just("1,2"), st.just("[[1,2]]")), min_size=1),
    content_type=st.sampled_from(["text/csv", "application/json"]),
    accept=st.sampled_from([None, "text/csv", "application/json", "image/png"]),
)
def test_a_batch_is_answered_as_each_alone_would_be(bodies, content_type, accept):
    payloads = ask(*map(str.encode, bodies), content_type=content_type, accept=accept)
    alone = slowly(payloads)  # reads without the short cut
    assert told(PREDICTOR.predict(payloads)) == told(alone)


@pytest.mark.parametrize(
    ("content_type", "bodies"),
    [
        ("text/csv", [b"1,2", b"3,4\n", b" 5,6"]),
        ("text/csv", [b"1,2\n3,4", b"5;6"]),
        ("text/csv", [b"1,", b"nan,2"]),
        ("application/json", [b"[[1,2]]", b"[[3,4],[5,6]]"]),
        ("application/x-npy", [npy([[1, 2]]), npy([[3, 4], [5, 6]])]),
    ],
)
def test_plain_rows_of_one_type_are_one_run(content_type, bodies):
    SEEN.clear()
    answers = PREDICTOR.predict(ask(*bodies, content_type=content_type))
    assert len(SEEN) == 1
    assert answers == slowly(ask(*bodies, content_type=content_type))


@pytest.mark.parametrize(
    ("content_type", "bodies", "bad"),
    [
        ("application/json", [b"[[1,2]],[[3,4]", b"[[5,6]]", b"[7,8]]"], {0, 2}),
        ("application/json", [b"[[1,2],", b"[[3,4]]", b"[5,6]]"], {0, 2}),
        ("text/csv", [b"1,2],[3", b"4,5", b"6,7"], {0}),
        ("text/csv", [b"1,2", b"", b"6,7"], {1}),
        ("application/x-npy", [npy([[1, 2]]), npy([1]), npy(np.zeros((0, 2)))], {1, 2}),
    ],
)
def test_no_body_reaches_into_its_neighbours(content_type, bodies, bad):
    payloads = ask(*bodies, content_type=content_type)
    results = PREDICTOR.predict(payloads)
    assert {n for n, result in enumerate(results) if not isinstance(result, Answer)} == bad
    assert told(results) == told(slowly(payloads))


def test_each_is_answered_in_the_format_it_accepts():
    payloads = [Payload(b"1,2", "text/csv", accept) for accept in ("text/csv", "application/json")]
    assert [answer.body for answer in PREDICTOR.predict(payloads)] == [b"1.0,2.0\n", b"[[1.0,2.0]]"]


def test_rows_that_may_not_be_joined_are_run_one_payload_at_a_time():
    SEEN.clear()
    RowPredictor(width=WIDTH, run=echo, joins=False).predict(ask(b"1,2", b"3,4"))
    assert SEEN == [1, 1]

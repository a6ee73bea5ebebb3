"""Any split of the bytes gives the same messages; garbage gives ProtocolError or nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mme.workers.protocol import (
    PART_BYTES,
    Absent,
    Answered,
    Ask,
    Beat,
    Faulted,
    FrameBuffer,
    Load,
    Predict,
    Predicted,
    ProtocolError,
    Recall,
    Unload,
    decode_from_worker,
    decode_to_worker,
    encode,
)

text = st.text(max_size=20)
asks = st.builds(Ask, st.binary(max_size=200), st.none() | text, st.none() | text, st.none() | text)
to_worker = st.one_of(
    st.builds(Predict, st.integers(0, 2**40), text, st.lists(asks, max_size=4)),
    st.builds(Load, st.integers(0, 99), text, text, text),
    st.builds(Recall, text, text, text, st.integers(0, 2**40), st.lists(text, max_size=4)),
    st.builds(Unload, st.integers(0, 99), st.lists(text, max_size=4)),
)


@given(messages=st.lists(to_worker, max_size=5), cuts=st.lists(st.integers(0, 2000), max_size=8))
def test_any_split_of_the_bytes_gives_the_same_messages(messages, cuts):
    stream = b"".join(encode(message) for message in messages)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    buffer = FrameBuffer()
    frames = [frame for start, end in pairwise(edges) for frame in buffer.feed(stream[start:end])]
    assert [decode_to_worker(frame) for frame in frames] == messages


sizes = st.integers(0, 9) | st.integers(0, PART_BYTES * 3)
long_text = st.builds("t".__mul__, sizes)
answers = st.builds(Answered, st.builds(bytes, sizes), long_text, st.none() | long_text)


@given(results=st.lists(answers | st.builds(Faulted, st.integers(400, 599), text), max_size=6))
def test_the_parts_of_a_batch_are_the_batch_and_none_is_much_larger_than_one_answer(results):
    whole = Predicted(7, 0.5, results)
    parts = list(whole.parts())
    assert [result for part in parts for result in part.results] == results
    assert {(part.batch, part.seconds) for part in parts} == {(7, 0.5)}
    left = len(results)
    for part in parts:
        left -= len(part.results)
        assert part.left == left
        # what a failure says is at most some thousand characters
        assert len(part.results) <= 1 or len(encode(part)) <= PART_BYTES + 10_000


@given(garbage=st.binary(max_size=300))
def test_garbage_is_a_protocol_error_or_waits_for_more(garbage):
    try:
        for frame in FrameBuffer().feed(garbage):
            decode_to_worker(frame)
            decode_from_worker(frame)
    except ProtocolError:
        pass


def test_a_length_over_the_limit_is_refused_before_its_bytes_are_collected():
    with pytest.raises(ProtocolError, match="over the limit"):
        FrameBuffer().feed(b"\xff\xff\xff\xff")


@pytest.mark.parametrize("message", [Beat(1), Absent(2**40)])
def test_a_workers_message_is_not_taken_for_a_servers(message):
    frame = FrameBuffer().feed(encode(message))[0]
    assert decode_from_worker(frame) == message
    with pytest.raises(ProtocolError):
        decode_to_worker(frame)


def test_answers_and_faults_of_one_batch_keep_their_order():
    message = Predicted(
        7, 0.5, [Answered(b"1", "text/csv"), Faulted(400, "no"), Answered(b"", "a")]
    )
    assert decode_from_worker(FrameBuffer().feed(encode(message))[0]) == message

"""A worker's end of a socket: whole messages either way, whatever the socket takes at once."""

from __future__ import annotations

import socket
import threading

import pytest

from mme.workers.child_channel import Channel
from mme.workers.protocol import (
    Answered,
    Ask,
    FrameBuffer,
    Predict,
    Predicted,
    decode_from_worker,
    encode,
)

LARGE = 4 * 1024**2  # more than a socket takes at once


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    channel = Channel(theirs.detach())
    with ours, channel._socket:
        yield ours, channel


def read_one(ours: socket.socket) -> object:
    frames = FrameBuffer()
    while data := ours.recv(1 << 16):
        for frame in frames.feed(data):
            return decode_from_worker(frame)
    return None


@pytest.mark.parametrize("size_bytes", [1, LARGE])
def test_an_answer_arrives_whole_though_the_socket_takes_a_part_at_once(ends, size_bytes):
    ours, channel = ends
    answer = Predicted(7, 0.5, [Answered(b"x" * size_bytes, "text/csv")])
    sender = threading.Thread(target=channel.send, args=(answer,))
    sender.start()
    assert read_one(ours) == answer
    sender.join()


def test_what_has_come_and_what_comes_later_is_read_in_order_until_the_end(ends):
    ours, channel = ends
    asked = [Predict(number, "a", [Ask(b"x" * size)]) for number, size in enumerate((1, LARGE, 2))]
    ours.sendall(encode(asked[0]))  # there before anyone reads
    messages = channel.messages()
    assert next(messages) == asked[0]
    sender = threading.Thread(target=lambda: [ours.sendall(encode(one)) for one in asked[1:]])
    sender.start()
    assert [next(messages), next(messages)] == asked[1:]
    sender.join()
    ours.shutdown(socket.SHUT_WR)
    assert list(messages) == []


def test_an_answer_to_a_server_that_has_gone_is_an_error(ends):
    ours, channel = ends
    ours.close()
    with pytest.raises(BrokenPipeError):
        channel.send(Predicted(7, 0.5, []))

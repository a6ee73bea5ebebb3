"""A worker's end of a socket: whole messages either way, whatever the socket takes at once."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from mme.workers.child_channel import BatchChannel, Channel
from mme.workers.protocol import (
    Answered,
    Ask,
    FrameBuffer,
    Predict,
    Predicted,
    decode_from_worker,
    encode,
)

POLL_SECONDS = 0.2
LARGE = 4 * 1024**2  # more than a socket takes at once


@pytest.fixture(params=[Channel, BatchChannel])
def ends(request):
    ours, theirs = socket.socketpair()
    channel = request.param(theirs.detach())
    with ours, channel._socket:
        yield ours, channel


def read_one(ours: socket.socket) -> object:
    frames = FrameBuffer()
    while data := ours.recv(1 << 16):
        for frame in frames.feed(data):
            return decode_from_worker(frame)
    return None


@pytest.mark.parametrize("kind", [Channel, BatchChannel])
def test_no_program_that_a_model_starts_holds_the_socket(kind):
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)  # as a worker gets it
    channel = kind(theirs.detach())
    with ours, channel._socket:
        assert not os.get_inheritable(channel._socket.fileno())


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


def ask_in_turns(ours: socket.socket, channel: Channel, count: int) -> None:
    """Each is sent once somebody waits for it."""
    may_send = threading.Semaphore(0)

    def ask() -> None:
        for number in range(count):
            may_send.acquire()
            ours.sendall(encode(Predict(number, "a", [Ask(b"x")])))

    sender = threading.Thread(target=ask)
    sender.start()
    messages = channel.messages()
    for number in range(count):
        may_send.release()
        assert next(messages) == Predict(number, "a", [Ask(b"x")])
    sender.join()


@pytest.fixture
def polling_ends():
    ours, theirs = socket.socketpair()
    channel = BatchChannel(theirs.detach(), poll_seconds=POLL_SECONDS)
    with ours, channel._socket:
        yield ours, channel


def test_while_lone_messages_follow_each_other_the_next_is_looked_for_before_sleeping(polling_ends):
    ours, channel = polling_ends
    ask_in_turns(ours, channel, 100)
    later = threading.Timer(POLL_SECONDS / 2, ours.sendall, [encode(Predict(7, "a", []))])
    began = time.thread_time()
    later.start()
    assert next(channel.messages()) == Predict(7, "a", [])
    assert time.thread_time() - began > POLL_SECONDS / 10  # it did not sleep all the while
    later.join()


@pytest.mark.parametrize("why", ["a long wait", "many at once"])
def test_who_has_no_reason_to_look_for_the_next_one_sleeps(polling_ends, why):
    ours, channel = polling_ends
    ask_in_turns(ours, channel, 100)
    if why == "many at once":
        channel.saw_many()
    else:
        late = threading.Timer(2 * POLL_SECONDS, ours.sendall, [encode(Predict(6, "a", []))])
        late.start()
        next(channel.messages())
        late.join()
    later = threading.Timer(POLL_SECONDS, ours.sendall, [encode(Predict(7, "a", []))])
    began = time.thread_time()
    later.start()
    assert next(channel.messages()) == Predict(7, "a", [])
    assert time.thread_time() - began < POLL_SECONDS / 10
    later.join()


def test_an_answer_to_a_server_that_has_gone_is_an_error(ends):
    ours, channel = ends
    ours.close()
    with pytest.raises(BrokenPipeError):
        channel.send(Predicted(7, 0.5, []))

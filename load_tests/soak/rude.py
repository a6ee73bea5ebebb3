"""Bad clients: each does one rude thing over and over, and says what a server should do about it.

Decision: how it behaves is a function from where it connects to an outcome, RIGHT where the server
did what it should: cut off, refused, or answered in order. Nothing of it excuses anybody's errors.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from select import select

from load_tests.answers import Checker
from load_tests.messages import MalformedMessage, MessageParser, write_request
from load_tests.plan import Question
from load_tests.soak.book import RIGHT, Book
from load_tests.soak.callers import LOST, PATH

_KEPT = "kept connected"
_PIPELINED = 20
_UNREAD = 300  # answers of some 20 KB: more than sockets hold
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: a reset instead of an end
_GARBAGE_BYTES = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """Where they come, and what can be asked there."""

    port: int
    patience_seconds: float  # the server's, for a request to come and an answer to be taken
    slack_seconds: float = 15.0  # beyond it, on a machine that others use, too
    hot: Question
    cold: Sequence[Question]
    random: random.Random

    @contextmanager
    def open(self) -> Iterator[socket.socket]:
        """A connection."""
        with socket.create_connection(("127.0.0.1", self.port), self.limit_seconds) as connection:
            yield connection

    @property
    def limit_seconds(self) -> float:
        """How long is waited for what the server does."""
        return self.patience_seconds + self.slack_seconds

    def request(self, question: Question) -> bytes:
        """A right one."""
        headers = {
            "Content-Type": "text/csv",
            "Accept": "text/csv",
            "X-Amzn-SageMaker-Target-Model": question.target,
        }
        return write_request(f"127.0.0.1:{self.port}", PATH, headers, question.body.encode())


class Rude(threading.Thread):
    """Behaves so until `over`."""

    def __init__(  # noqa: PLR0913 - what it does where, how often, until when, and who is told
        self,
        traffic: str,
        behave: Callable[[Door], str],
        door: Door,
        *,
        pause_seconds: float,
        over: threading.Event,
        book: Book,
    ) -> None:
        super().__init__(name=f"rude {traffic}")
        self._traffic, self._behave, self._door = traffic, behave, door
        self._pause_seconds, self._over, self._book = pause_seconds, over, book

    def run(self) -> None:
        """As in Thread."""
        while not self._over.wait(self._pause_seconds * self._door.random.uniform(0.5, 1.5)):
            began = time.monotonic()
            outcome = meet(self._behave, self._door)
            self._book.enter(self._traffic, outcome, began, time.monotonic(), "")


def meet(behave: Callable[[Door], str], door: Door) -> str:
    """What came of behaving so once."""
    try:
        return behave(door)
    except TimeoutError:
        return _KEPT
    except OSError:
        return LOST
    except MalformedMessage:
        return "malformed answer"


def say_nothing(door: Door) -> str:
    """Connects; is to be cut off."""
    with door.open() as connection:
        return _until_cut(connection)


def send_a_byte_a_second(door: Door) -> str:
    """Takes for ever to send its head; is to be cut off."""
    request, began = door.request(door.hot), time.monotonic()
    with door.open() as connection:
        for byte in request:
            if time.monotonic() - began > door.limit_seconds:
                return _KEPT
            if select([connection], [], [], 1.0)[0]:
                return _until_cut(connection)
            connection.send(bytes([byte]))
    return _KEPT


def leave_in_mid_request(door: Door) -> str:
    """Half of a body; nobody is to care."""
    with door.open() as connection:
        connection.sendall(door.request(door.hot)[: -len(door.hot.body) // 2])
        _leave(connection, door)
    return RIGHT


def leave_in_mid_load(door: Door) -> str:
    """Asks for a model that is not there, and goes; nobody is to care."""
    with door.open() as connection:
        connection.sendall(door.request(door.random.choice(door.cold)))
        _leave(connection, door)
    return RIGHT


def send_too_much(door: Door) -> str:
    """Announces a gigabyte; is to be told 413."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {10**9}\r\n\r\n"
    with door.open() as connection:
        connection.sendall(head.encode())
        return _expect(connection, b"413")


def send_garbage(door: Door) -> str:
    """What is no HTTP; is to be told 400."""
    with door.open() as connection:
        connection.sendall(b"\x16" + door.random.randbytes(_GARBAGE_BYTES) + b"\r\n\r\n")
        return _expect(connection, b"400")


def pipeline(door: Door) -> str:
    """Asks again before it is answered; is to be answered in order, every one."""
    parser, checker, answered = MessageParser(), Checker(door.hot.expected), 0
    with door.open() as connection:
        connection.sendall(door.request(door.hot) * _PIPELINED)
        while answered < _PIPELINED:
            if not (data := connection.recv(1 << 16)):
                return LOST
            messages = parser.feed(data)
            for line, body in messages:
                if (status := line[9:12]) != b"200":
                    return f"status {status.decode('latin-1')}"
                if not checker.is_right(body):
                    return "wrong answer"
            answered += len(messages)
    return RIGHT


def read_nothing(door: Door) -> str:
    """Asks a lot and takes no answer; is to be cut off before all are sent."""
    parser, answered = MessageParser(), 0
    request = f"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:{door.port}\r\n\r\n".encode()
    with door.open() as connection:
        connection.sendall(request * _UNREAD)
        time.sleep(door.limit_seconds)  # which is what it does
        try:
            while data := connection.recv(1 << 16):
                answered += len(parser.feed(data))
        except ConnectionError:
            return RIGHT
    return RIGHT if answered < _UNREAD else "sent everything"


BEHAVIOURS: dict[str, tuple[Callable[[Door], str], float]] = {
    "says nothing": (say_nothing, 1.0),
    "a byte a second": (send_a_byte_a_second, 1.0),
    "leaves in mid-request": (leave_in_mid_request, 0.5),
    "leaves in mid-load": (leave_in_mid_load, 1.0),
    "sends too much": (send_too_much, 0.5),
    "sends garbage": (send_garbage, 0.5),
    "pipelining": (pipeline, 0.5),
    "reads nothing": (read_nothing, 10.0),
}
"""By name: what it does, and for how many seconds it rests."""


def _until_cut(connection: socket.socket) -> str:
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionError:
        pass  # a reset is an end
    return RIGHT


def _expect(connection: socket.socket, status: bytes) -> str:
    """The first answer's status; the server may be reading on, so nobody waits for its end."""
    said = connection.recv(1 << 16)
    return RIGHT if said[9:12] == status else f"told {said[:40]!r}"


def _leave(connection: socket.socket, door: Door) -> None:
    if door.random.random() < 0.5:  # noqa: PLR2004 - as often this way as that
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)

"""The hop of the load tests that makes an S3 far: it passes everything on, late and no faster."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from load_tests.far_hop import Distance, far_hop

BODY = bytes(range(256)) * 400


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it gets, to one client."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(65536):
                    connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def there_and_back(port: int, body: bytes) -> tuple[bytes, float]:
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(body)
        with client.makefile("rb") as answer:
            back = answer.read(len(body))
    return back, time.monotonic() - started


def test_what_goes_through_comes_whole_and_late(echo: int) -> None:
    with far_hop(echo, Distance(latency_seconds=0.05, connection_rate=1e9)) as port:
        back, seconds = there_and_back(port, b"x")
    assert back == b"x"
    assert seconds >= 0.1


def test_a_connection_is_no_faster_than_it_may_be(echo: int) -> None:
    with far_hop(echo, Distance(latency_seconds=0, connection_rate=1e6)) as port:
        back, seconds = there_and_back(port, BODY)
    assert back == BODY
    assert seconds >= (len(BODY) - 65536) / 1e6

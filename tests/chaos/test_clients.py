"""Clients that misbehave towards the real server: each is dealt with, and costs nobody anything."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import psutil
import pytest

from tests.chaos.test_server import address, assert_ledger_is_exact, is_model, post
from tests.engines import drop
from tests.models import CSV, booster
from tests.servers import Served, serving

pytestmark = pytest.mark.timeout(60)
FLAGS = ("--body-seconds", "1", "--body-limit", "1MiB")
ASKED = "POST /endpoints/mme/invocations HTTP/1.1\r\nHost: mme\r\nContent-Type: text/csv\r\n"
LEFT_SECONDS = 15.0


def head(model: str, length: int, more: str = "") -> bytes:
    target = f"X-Amzn-SageMaker-Target-Model: {model}\r\n"
    return f"{ASKED}{target}Accept: text/csv\r\n{more}Content-Length: {length}\r\n\r\n".encode()


def whole(model: str) -> bytes:
    return head(model, len(CSV)) + CSV


def says_nothing(client: socket.socket) -> None:
    assert client.recv(1000) == b""  # it is cut off


def sends_half_a_head(client: socket.socket) -> None:
    client.sendall(head("m1", 3)[:40])
    read_all(client)


def sends_a_byte_at_a_time(client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        for byte in whole("m1"):
            client.sendall(bytes([byte]))
            time.sleep(0.05)
    assert b" 200 " not in read_all(client)


def sends_too_much(client: socket.socket) -> None:
    client.sendall(head("m1", 5 * 1024**2))
    assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


def sends_garbage(client: socket.socket) -> None:
    client.sendall(b"\x00\xff garbage\r\n\r\n")
    assert client.recv(1000).split(b" ")[1] == b"400"


def leaves_in_mid_request(client: socket.socket) -> None:
    client.sendall(head("m1", 1000) + b"1,2")


def leaves_in_mid_load(client: socket.socket) -> None:
    client.sendall(whole("m2"))


def leaves_without_its_answer(client: socket.socket) -> None:
    client.sendall(whole("m1"))


def pipelines(client: socket.socket) -> None:
    client.sendall(whole("m1") + whole("missing") + whole("m1"))
    answers = b""
    while answers.count(b"HTTP/1.1 ") < 3 or answers.count(b"HTTP/1.1 200") < 2:
        answers += (piece := client.recv(4096))
        assert piece, answers
    assert [line.split(b" ")[1] for line in answers.split(b"HTTP/1.1")[1:]] == [
        b"200",
        b"400",
        b"200",
    ]


def reads_nothing(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(1.0)
    with contextlib.suppress(OSError):  # it takes no more, or cuts us off
        for _ in range(20_000):
            client.sendall(whole("m1"))


def read_all(client: socket.socket) -> bytes:
    answer = b""
    with contextlib.suppress(ConnectionError):
        while piece := client.recv(4096):
            answer += piece
    return answer


RUDE: list[Callable[[socket.socket], None]] = [
    says_nothing,
    sends_half_a_head,
    sends_a_byte_at_a_time,
    sends_too_much,
    sends_garbage,
    leaves_in_mid_request,
    leaves_in_mid_load,
    leaves_without_its_answer,
    pipelines,
    reads_nothing,
]


def answer(served: Served, model: str) -> float:
    connection = http.client.HTTPConnection(*address(served), timeout=10)
    with contextlib.closing(connection):
        status, body = post(connection, model)
        assert status == 200, body
        return float(body)


@pytest.mark.parametrize("rude", RUDE, ids=lambda rude: rude.__name__)
def test_a_client_that_misbehaves_is_dealt_with_and_costs_nobody_anything(
    tmp_path: Path, rude: Callable[[socket.socket], None]
) -> None:
    for seed in (1, 2):
        drop(tmp_path / "models", f"m{seed}", booster(seed).members)
    with serving(tmp_path, tmp_path / "models", *FLAGS) as served:
        assert answer(served, "m1") == is_model(1)
        server = psutil.Process(served.process.pid)
        before = server.num_fds()
        with socket.create_connection(address(served), timeout=10) as client:
            rude(client)
            assert answer(served, "m1") == is_model(1)
        assert answer(served, "m2") == is_model(2)
        wait_until(lambda: server.num_fds() <= before)  # its connection is given up
        assert [worker["restarts"] for worker in served.state()["workers"]] == [0]
        assert len(served.state()["models"]) == 2
        assert_ledger_is_exact(served)


def test_connections_over_grpc_leave_files_to_http_and_to_models(tmp_path: Path) -> None:
    drop(tmp_path / "models", "m1", booster(1).members)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    few_files = ("sh", "-c", 'ulimit -Sn 400 && exec "$@"', "sh")
    flags = ("--grpc-port", str(port))
    with serving(tmp_path, tmp_path / "models", *flags, within=few_files) as served:
        server = psutil.Process(served.process.pid)
        before = server.num_fds()
        with contextlib.ExitStack() as crowd:
            for _ in range(600):
                crowd.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            assert answer(served, "m1") == is_model(1)
        wait_until(lambda: server.num_fds() < before + 50)  # but what a worker and a model take
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=10)


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + LEFT_SECONDS
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)

"""Large answers, and clients that do not take them: the server's memory is bounded."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError

from tests.engines import drop
from tests.eventually import wait_for
from tests.models import booster
from tests.servers import Served, predict, runtime_client, serving

pytestmark = pytest.mark.timeout(90)
MB, MIB = 10**6, 1024**2
LIMIT_BYTES, TOGETHER_BYTES = 8 * MB, 60 * MB
SCRIPT = b"""
def model_fn(model_dir):
    return None


def transform_fn(model, data, content_type, accept):
    return b"x" * int(data), "application/octet-stream"


def rows_fn(*_):
    return 1
"""
ROGUE = b"""
import os, socket


def model_fn(model_dir):
    return None


def transform_fn(model, data, content_type, accept):
    for name in os.listdir("/proc/self/fd"):
        try:
            line = socket.socket(fileno=os.dup(int(name)))
            line.sendall(b"\\x3f\\xff\\xff\\xff" + bytes(900_000_000))
        except OSError:
            pass
    return b"", "text/plain"
"""


@contextlib.contextmanager
def served(root: Path, *flags: str):
    drop(root / "models", "large", {"code/inference.py": SCRIPT})
    drop(root / "models", "rogue", {"code/inference.py": ROGUE})
    drop(root / "models", "m1", booster(1).members)
    limits = ("--answer-limit", str(LIMIT_BYTES), "--bodies-limit", str(TOGETHER_BYTES))
    with (
        serving(root, root / "models", *limits, *flags) as served,
        runtime_client(served.url, retries={"max_attempts": 0}) as client,
    ):
        assert predict(client, "m1") == pytest.approx(booster(1).prediction)
        yield served, client


def ask(client, size_bytes: int) -> bytes:
    fields = {"EndpointName": "mme", "TargetModel": "large", "Body": str(size_bytes).encode()}
    return client.invoke_endpoint(**fields)["Body"].read()


def asking(served: Served, size_bytes: int) -> socket.socket:
    """A connection over which so much is asked for, and from which nothing is read."""
    host, _, port = served.url.removeprefix("http://").partition(":")
    line = socket.create_connection((host, int(port)), timeout=20)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    body = str(size_bytes).encode()
    line.sendall(
        b"POST /endpoints/mme/invocations HTTP/1.1\r\nHost: x\r\n"
        b"X-Amzn-SageMaker-Target-Model: large\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    return line


def memory_bytes(served: Served) -> int:
    """Of the server and its front processes; not of its workers."""
    server = psutil.Process(served.process.pid)
    own = [each for each in server.children() if "remote_child" in " ".join(each.cmdline())]
    return sum(each.memory_full_info().uss for each in (server, *own))


def test_an_answer_over_the_limit_is_its_own_requests_error(tmp_path: Path) -> None:
    with served(tmp_path) as (_, client):
        assert ask(client, 3 * MB) == b"x" * (3 * MB)
        sizes = (10, LIMIT_BYTES + 1, LIMIT_BYTES - 100, 5 * MB, 11)
        told: dict[int, object] = {}

        def note(size_bytes: int) -> None:
            try:
                told[size_bytes] = len(ask(client, size_bytes))
            except ClientError as error:
                told[size_bytes] = error

        threads = [threading.Thread(target=note, args=[size]) for size in sizes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        error = told.pop(LIMIT_BYTES + 1)
        assert "the limit (answer_limit) is 8000000" in str(error)
        assert error.response["Error"]["Code"] == "ModelError"
        assert told == {size: size for size in told}
        assert len(told) == 4


@pytest.mark.parametrize("fronts", ["1", "2"])
def test_clients_that_take_nothing_fill_no_more_than_the_limit(tmp_path: Path, fronts: str) -> None:
    with served(tmp_path, "--fronts", fronts, "--body-seconds", "6") as (server, client):
        ask(client, 5 * MB)
        before_bytes = memory_bytes(server)
        with contextlib.ExitStack() as crowd:
            for _ in range(60):
                crowd.enter_context(asking(server, 5 * MB))
            wait_for(lambda: len(refused(server)) >= 40)
            # what is counted, here and in front processes; what is on its way; what malloc keeps
            bound_bytes = int(fronts) * 2 * TOGETHER_BYTES
            assert memory_bytes(server) - before_bytes < bound_bytes
            assert predict(client, "m1") == pytest.approx(booster(1).prediction)
            with pytest.raises(ClientError, match="ServiceUnavailable"):
                ask(client, 5 * MB)
            # who does not take it in time is cut off, and there is room again
            wait_for(lambda: takes(client, 5 * MB))
        for _ in range(20):
            assert len(ask(client, 5 * MB)) == 5 * MB  # nothing is left counted
        assert "internal_error" not in {line["event"] for line in server.log()}


def refused(server: Served) -> list[dict[str, object]]:
    return [line for line in server.log() if line["event"] == "request" and line["status"] == 503]


def takes(client, size_bytes: int) -> bool:
    try:
        return len(ask(client, size_bytes)) == size_bytes
    except ClientError:
        return False


def test_a_worker_that_sends_more_than_any_answer_is_ended_before_it_is_here(
    tmp_path: Path,
) -> None:
    with served(tmp_path) as (server, client):
        peak = Peak(server)
        before_bytes = peak.look()
        with peak, pytest.raises(ClientError) as ended:
            predict(client, "rogue")
        assert ended.value.response["Error"]["Code"] == "ModelError"
        assert peak.most_bytes - before_bytes < 3 * (LIMIT_BYTES + 16 * MIB)
        assert predict(client, "m1") == pytest.approx(booster(1).prediction)
        memory = server.state()["memory"]
        assert memory["reserved_bytes"] == memory["leaving_bytes"] == 0


class Peak:
    """The most memory that a server has meanwhile."""

    def __init__(self, served: Served) -> None:
        self._process = psutil.Process(served.process.pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_again)
        self.most_bytes = 0

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def look(self) -> int:
        return int(self._process.memory_info().rss)

    def _look_again(self) -> None:
        while not self._ended.wait(0.01):
            self.most_bytes = max(self.most_bytes, self.look())

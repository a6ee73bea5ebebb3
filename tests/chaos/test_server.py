"""The server's own limits and its end: no descriptor left, stopped, killed, a read-only disk."""

from __future__ import annotations

import contextlib
import http.client
import json
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError

from tests.engines import drop
from tests.models import CSV, booster
from tests.servers import Served, predict, runtime_client, serving
from tests.small_disk import SmallDisk

MIB = 1024**2


def is_model(seed: int) -> object:
    return pytest.approx(booster(seed).prediction, rel=1e-6)


def address(served: Served) -> tuple[str, int]:
    host, _, port = served.url.removeprefix("http://").partition(":")
    return host, int(port)


def post(connection: http.client.HTTPConnection, model: str) -> tuple[int, bytes]:
    csv = {"Content-Type": "text/csv", "Accept": "text/csv"}
    headers = {"X-Amzn-SageMaker-Target-Model": model, **csv}
    connection.request("POST", "/endpoints/mme/invocations", CSV, headers)
    with connection.getresponse() as reply:
        return reply.status, reply.read()


def assert_ledger_is_exact(served: Served) -> None:
    state = served.state()
    memory = state["memory"]
    assert memory["reserved_bytes"] == memory["leaving_bytes"] == 0
    assert memory["resident_bytes"] == sum(model["bytes"] for model in state["models"])


@pytest.mark.timeout(60)
def test_without_descriptors_it_neither_dies_nor_spins_and_recovers(tmp_path: Path) -> None:
    drop(tmp_path / "models", "m1", booster(1).members)
    drop(tmp_path / "models", "m2", booster(2).members)
    with serving(tmp_path, tmp_path / "models") as served, contextlib.ExitStack() as crowd:
        kept = http.client.HTTPConnection(*address(served), timeout=10)
        crowd.callback(kept.close)
        assert post(kept, "m1")[0] == 200
        server = psutil.Process(served.process.pid)
        before = server.num_fds()
        limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (before + 5, limits[1]))
        for _ in range(40):
            crowd.enter_context(socket.create_connection(address(served), timeout=10))
        used, since = sum(server.cpu_times()[:2]), time.monotonic()
        while time.monotonic() - since < 1.5:
            assert float(post(kept, "m1")[1]) == is_model(1)
            time.sleep(0.1)  # it is watched doing next to nothing
        assert sum(server.cpu_times()[:2]) - used < 0.75
        status, body = post(kept, "m2")  # a cold one can't be read: that is told, not hung
        if status == 200:
            assert float(body) == is_model(2)
        else:
            assert status == 530, body
            assert "Too many open files" in json.loads(body)["Message"]
        crowd.close()
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
        with runtime_client(served.url, retries={"max_attempts": 8}) as client:
            assert predict(client, "m1") == is_model(1)
            assert predict(client, "m2") == is_model(2)
        assert_ledger_is_exact(served)


class Caller(threading.Thread):
    """Asks for one model again and again until the server has gone; tells what was not right."""

    def __init__(
        self, served: Served, seed: int, wrong: list[object], answered: threading.Semaphore
    ) -> None:
        super().__init__()
        self.connection = http.client.HTTPConnection(*address(served), timeout=10)
        self.seed, self.wrong, self.answered = seed, wrong, answered

    def run(self) -> None:
        with (
            contextlib.closing(self.connection),
            contextlib.suppress(OSError, http.client.HTTPException),
        ):
            while True:
                status, body = post(self.connection, f"m{self.seed}")
                if status != 503 and (status != 200 or float(body) != is_model(self.seed)):
                    self.wrong.append((status, body))
                self.answered.release()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_ended_under_load_it_leaves_no_worker_and_no_wrong_answer_and_starts_again(
    tmp_path: Path, how: signal.Signals
) -> None:
    for seed in range(3):
        drop(tmp_path / "models", f"m{seed}", booster(seed).members)
    wrong: list[object] = []
    answered = threading.Semaphore(0)
    heard = ["env", "--default-signal=HUP"]  # whoever runs the tests may ignore it, as nohup does
    with serving(tmp_path, tmp_path / "models", within=heard) as served:
        server = psutil.Process(served.process.pid)
        threads = [Caller(served, seed, wrong, answered) for seed in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(100):
            answered.acquire()
        family = server.children(recursive=True)
        assert family
        server.send_signal(how)
        code = served.process.wait(timeout=30)
        for thread in threads:
            thread.join()
        assert psutil.wait_procs(family, timeout=10)[1] == []
    assert wrong == []
    assert code == (-how if how is signal.SIGKILL else 0)
    with serving(tmp_path, tmp_path / "models") as served, runtime_client(served.url) as client:
        assert [predict(client, f"m{seed}") for seed in range(3)] == [
            is_model(seed) for seed in range(3)
        ]
        assert_ledger_is_exact(served)


@pytest.mark.timeout(60)
def test_one_that_was_started_by_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    drop(tmp_path / "models", "m1", booster(1).members)
    with (
        serving(tmp_path, tmp_path / "models", within=["nohup"]) as served,
        runtime_client(served.url) as client,
    ):
        served.process.send_signal(signal.SIGHUP)
        assert predict(client, "m1") == is_model(1)


@pytest.mark.timeout(60)
def test_a_disk_that_turns_read_only_is_told_and_passes(tmp_path: Path) -> None:
    for seed in (1, 2):
        drop(tmp_path / "models", f"m{seed}", booster(seed).members)
    disk = SmallDisk(tmp_path / "cache", 16 * MIB)

    def turn(served: Served, mode: str) -> None:
        if not disk.is_real:  # no namespace here: nothing can be written, which is as good
            (disk.fill if mode == "ro" else disk.free)(served.process.pid)
            return
        inside = ["nsenter", "-t", str(served.process.pid), "-U", "-m", "--preserve-credentials"]
        mount = ["mount", "-t", "tmpfs", "-o", "ro", "none"] if mode == "ro" else ["umount"]
        for name in ("incoming", "ahead"):  # the rest is busy: its lock is open
            place = str(tmp_path / "cache" / name)
            subprocess.run([*inside, *mount, place], check=True, timeout=10)

    with (
        serving(
            tmp_path, tmp_path / "models", "--refresh-seconds", "0.1", within=disk.within
        ) as served,
        runtime_client(served.url) as client,
    ):
        assert predict(client, "m1") == is_model(1)
        turn(served, "ro")
        with pytest.raises(ClientError) as refusal:
            predict(client, "m2")
        assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert predict(client, "m1") == is_model(1)
        turn(served, "rw")
        assert predict(client, "m2") == is_model(2)
        assert_ledger_is_exact(served)


@pytest.mark.timeout(120)
def test_a_cache_directory_deleted_under_the_server_costs_no_answer_but_the_fetch(
    tmp_path: Path,
) -> None:
    for seed in range(1, 4):
        drop(tmp_path / "models", f"m{seed}", booster(seed).members)
    memory = ("--refresh-seconds", "0.1")
    with serving(tmp_path, tmp_path / "models", *memory) as served:
        connection = http.client.HTTPConnection(*address(served), timeout=60)
        assert float(post(connection, "m1")[1]) == is_model(1)
        shutil.rmtree(tmp_path / "cache")
        for seed in (1, 2, 3, 1):
            status, body = post(connection, f"m{seed}")
            assert (status, float(body)) == (200, is_model(seed)), body
        connection.close()
        assert_ledger_is_exact(served)
        assert len(served.state()["models"]) == 3
        assert len(list((tmp_path / "cache" / "models").glob("*.json"))) >= 2
    assert not list((tmp_path / "cache" / "incoming").iterdir())


@pytest.mark.timeout(60)
def test_a_second_server_on_one_cache_directory_is_refused_and_the_first_goes_on(
    tmp_path: Path,
) -> None:
    for seed in (1, 2):
        drop(tmp_path / "models", f"m{seed}", booster(seed).members)
    with serving(tmp_path, tmp_path / "models") as served, runtime_client(served.url) as client:
        assert predict(client, "m1") == is_model(1)
        command = [sys.executable, "-m", "mme.cli.main", "serve", "--port", "0"]
        command += ["--models", tmp_path / "models", "--cache-dir", tmp_path / "cache"]
        second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert second.returncode != 0
        assert second.stderr.startswith("mme: cache_dir: ")
        assert "in use by another server" in second.stderr
        assert "Traceback" not in second.stderr
        assert [predict(client, f"m{seed}") for seed in (1, 2)] == [is_model(1), is_model(2)]
        assert_ledger_is_exact(served)


@pytest.mark.timeout(60)
def test_a_connection_goes_on_after_each_kind_of_error(tmp_path: Path) -> None:
    drop(tmp_path / "models", "m1", booster(1).members)
    drop(tmp_path / "models", "bad", b"no tarball")
    with serving(tmp_path, tmp_path / "models") as served:
        connection = http.client.HTTPConnection(*address(served), timeout=10)
        for model in ("missing", "../m1", "bad", "http://x/m1"):
            assert post(connection, model)[0] >= 400
            mine = connection.sock
            assert float(post(connection, "m1")[1]) == is_model(1)
            assert connection.sock is mine, model
        connection.close()
        assert_ledger_is_exact(served)

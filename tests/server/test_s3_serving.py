"""The main job: a real bucket, a real server, unmodified clients, models that do not all fit."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from botocore.exceptions import ClientError

from tests.engines import tarball
from tests.models import CSV, booster, spinner
from tests.servers import predict, runtime_client, serving

pytestmark = pytest.mark.timeout(120)


def s3_flags(bucket):
    return ("--s3-endpoint", bucket.endpoint)


def wait_until(is_true, seconds=20.0):
    limit = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.01)


def test_models_dropped_into_s3_answer_boto3_while_eviction_goes_on(tmp_path, bucket):
    trained = [booster(seed, trees=100, depth=6) for seed in range(12)]
    for seed, model in enumerate(trained):
        bucket.put(f"prod/tenant {seed}/model.tar.gz", tarball(model.members))
    with (
        serving(tmp_path, bucket.url("prod/"), *s3_flags(bucket), "--memory", "180KB") as server,
        runtime_client(server.url) as client,
    ):
        order = [seed for _ in range(4) for seed in range(12)]
        random.Random(3).shuffle(order)
        for seed in order:
            answer = predict(client, f"tenant {seed}/model.tar.gz")
            assert answer == pytest.approx(trained[seed].prediction, rel=1e-6)
        bucket.put("prod/new.tar.gz", tarball(booster(77).members))
        assert predict(client, "/new.tar.gz") == pytest.approx(booster(77).prediction, rel=1e-6)
        state = server.state()
        assert [event for event in state["events"] if event["kind"] == "evicted"]
        assert state["memory"]["resident_bytes"] <= state["memory"]["budget_bytes"] == 180_000


def test_models_fetched_in_ranges_answer_and_are_switched_when_overwritten(tmp_path, bucket):
    ranges = ("--s3-ranges", "3", "--s3-range-bytes", "3KB", "--refresh-seconds", "0.2")
    small, large = booster(1), booster(2, trees=100, depth=6)
    bucket.put("small.tar.gz", tarball(small.members))
    bucket.put("large.tar.gz", tarball(large.members))
    assert len(tarball(large.members)) > 5 * 3_000
    with (
        serving(tmp_path, bucket.url(), *s3_flags(bucket), *ranges) as server,
        runtime_client(server.url) as client,
    ):
        assert predict(client, "small.tar.gz") == pytest.approx(small.prediction, rel=1e-6)
        assert predict(client, "large.tar.gz") == pytest.approx(large.prediction, rel=1e-6)
        newer = booster(3, trees=100, depth=6)
        bucket.put("large.tar.gz", tarball(newer.members))
        wait_until(
            lambda: predict(client, "large.tar.gz") == pytest.approx(newer.prediction, rel=1e-6)
        )


def test_torch_models_answer_from_s3_what_torch_answers(tmp_path, bucket):
    bucket.put("spin.tar.gz", tarball({"model.pt": spinner()}))
    with (
        serving(tmp_path, bucket.url(), *s3_flags(bucket), "--preload", "torch") as server,
        runtime_client(server.url) as client,
    ):
        reply = client.invoke_endpoint(
            EndpointName="mme",
            TargetModel="spin.tar.gz",
            Body=b"[[0.0, 0.5], [0.25, 1.0]]",
            ContentType="application/json",
        )
        assert np.allclose(json.load(reply["Body"]), [[0.0, 0.5], [0.25, 1.0]])
        assert reply["InvokedProductionVariant"] == "AllTraffic"


def test_the_aws_cli_gets_the_same_answer(tmp_path, bucket):
    bucket.put("a.tar.gz", tarball(booster(1).members))
    with serving(tmp_path, bucket.url(), *s3_flags(bucket)) as server:
        out = tmp_path / "out"
        command = [
            str(Path(sys.executable).parent / "aws"), "sagemaker-runtime", "invoke-endpoint",
            "--endpoint-url", server.url, "--endpoint-name", "mme", "--target-model", "a.tar.gz",
            "--content-type", "text/csv", "--body", CSV.decode(), str(out),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["InvokedProductionVariant"] == "AllTraffic"
        assert json.loads(out.read_text()) == pytest.approx([booster(1).prediction], rel=1e-6)


def test_a_hundred_callers_of_a_cold_model_make_one_get(tmp_path, bucket):
    bucket.put("a.tar.gz", tarball(booster(1).members))
    with (
        serving(tmp_path, bucket.url(), *s3_flags(bucket)) as server,
        runtime_client(server.url, max_pool_connections=100) as client,
        ThreadPoolExecutor(100) as callers,
    ):
        answers = list(callers.map(lambda _: predict(client, "a.tar.gz"), range(100)))
        assert answers == pytest.approx([booster(1).prediction] * 100, rel=1e-6)
        assert len(server.logged(event="model_loaded")) == 1
        metrics = fetch_metrics(server.url)
        size = len(tarball(booster(1).members))
        assert metrics["mme_fetched_bytes_total"] == pytest.approx(size, abs=64)  # gzip's header


def fetch_metrics(url):
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in lines
        if not line.startswith("#")
    }


def test_a_restart_serves_from_disk_without_a_get(tmp_path, bucket):
    bucket.put("a.tar.gz", tarball(booster(1).members))
    for fetches in (1, 0):
        with (
            serving(tmp_path, bucket.url(), *s3_flags(bucket)) as server,
            runtime_client(server.url) as client,
        ):
            predict(client, "a.tar.gz")
            assert (fetch_metrics(server.url)["mme_fetched_bytes_total"] > 0) == bool(fetches)


def test_wrong_credentials_start_unready_and_say_so(tmp_path, bucket):
    environment = {**bucket.environment, "AWS_SECRET_ACCESS_KEY": "wrong"}
    with (
        serving(tmp_path, bucket.url(), *s3_flags(bucket), environment=environment) as server,
        runtime_client(server.url) as client,
    ):
        wait_until(lambda: [x for x in server.log() if x["event"] == "store_unreachable"])
        assert not server.state()["ready"]
        with pytest.raises(ClientError) as refused:
            predict(client, "a.tar.gz")
        assert refused.value.response["Error"]["Code"] in {
            "InternalDependencyException",
            "ValidationError",
        }


def test_a_missing_bucket_starts_unready_and_serves_once_it_is_there(tmp_path, bucket):
    name = f"{bucket.name}-late"
    with (
        serving(tmp_path, f"s3://{name}/", *s3_flags(bucket)) as server,
        runtime_client(server.url) as client,
    ):
        wait_until(lambda: [x for x in server.log() if x["event"] == "store_unreachable"])
        with pytest.raises(ClientError) as refused:
            predict(client, "a.tar.gz")
        assert refused.value.response["Error"]["Code"] == "ValidationError"
        bucket.client.create_bucket(Bucket=name)
        bucket.client.put_object(Bucket=name, Key="a.tar.gz", Body=tarball(booster(1).members))
        assert predict(client, "a.tar.gz") == pytest.approx(booster(1).prediction, rel=1e-6)
        wait_until(lambda: server.state()["ready"])


def test_s3_down_at_start_is_unready_and_an_error_that_says_retry(tmp_path, bucket):
    with (
        serving(
            tmp_path, "s3://bucket/", "--s3-endpoint", "http://127.0.0.1:1",
            "--s3-connect-seconds", "1",
        ) as server,
        runtime_client(server.url) as client,
    ):  # fmt: skip
        with pytest.raises(ClientError) as refused:
            predict(client, "a.tar.gz")
        error = refused.value.response
        assert error["Error"]["Code"] == "InternalDependencyException"
        assert error["ResponseMetadata"]["HTTPStatusCode"] == 530
        assert not server.state()["ready"]


class Forwarder:
    """A TCP hop before S3 that can be cut, so that S3 is down without being ended."""

    def __init__(self, target):
        host, _, port = target.removeprefix("http://").partition(":")
        self.target = (host, int(port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.sockets = []
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
                far = socket.create_connection(self.target)
            except OSError:
                return
            self.sockets += [near, far]
            for pair in ((near, far), (far, near)):
                thread = threading.Thread(target=self.pump, args=pair)
                self.threads.append(thread)
                thread.start()

    def pump(self, source, target):
        try:
            while data := source.recv(65_536):
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        for end in [self.listener, *self.sockets]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self.threads:
            thread.join()


def test_s3_down_later_leaves_residents_answering(tmp_path, bucket):
    bucket.put("a.tar.gz", tarball(booster(1).members))
    hop = Forwarder(bucket.endpoint)
    flags = (
        "--s3-endpoint", hop.url, "--refresh-seconds", "0.2", "--s3-connect-seconds", "1",
    )  # fmt: skip
    try:
        with (
            serving(tmp_path, bucket.url(), *flags) as server,
            runtime_client(server.url) as client,
        ):
            wait_until(lambda: server.state()["ready"])
            predict(client, "a.tar.gz")
            hop.cut()
            for _ in range(4):
                time.sleep(0.2)
                assert predict(client, "a.tar.gz") == pytest.approx(booster(1).prediction, rel=1e-6)
            with pytest.raises(ClientError) as refused:
                predict(client, "b.tar.gz")
            assert refused.value.response["Error"]["Code"] == "InternalDependencyException"
            assert server.state()["ready"]
    finally:
        hop.cut()


def test_a_denied_object_is_a_validation_error(tmp_path, bucket):
    bucket.put("a.tar.gz", tarball(booster(1).members))
    with (
        serving(
            tmp_path, bucket.url(), *s3_flags(bucket), environment=bucket.stranger_environment
        ) as server,
        runtime_client(server.url) as client,
    ):
        with pytest.raises(ClientError) as refused:
            predict(client, "a.tar.gz")
        error = refused.value.response["Error"]
        assert error["Code"] == "ValidationError"
        assert error["Message"].startswith(
            f"Failed to download model data (bucket: {bucket.name}, key: a.tar.gz)"
        )


def test_a_worker_killed_mid_predict_costs_one_request(tmp_path, bucket):
    bucket.put("spin.tar.gz", tarball({"model.pt": spinner()}))
    bucket.put("a.tar.gz", tarball(booster(1).members))
    with (
        serving(tmp_path, bucket.url(), *s3_flags(bucket), "--preload", "torch") as server,
        runtime_client(server.url) as client,
        ThreadPoolExecutor(8) as callers,
    ):
        predict(client, "a.tar.gz")
        spin = {"ContentType": "application/json"}
        assert predict(client, "spin.tar.gz", b"[[1.0]]", **spin) == 1.0
        doomed = callers.submit(predict, client, "spin.tar.gz", b"[[1000000000.0]]", **spin)
        wait_until(lambda: server.state()["workers"][0]["running"])
        others = [callers.submit(predict, client, "a.tar.gz") for _ in range(5)]
        wait_until(
            lambda: (
                server.state()["workers"][0]["running"] + server.state()["workers"][0]["queued"]
                >= 6
            )
        )
        os.kill(server.state()["workers"][0]["pid"], signal.SIGKILL)
        with pytest.raises(ClientError) as lost:
            doomed.result()
        assert lost.value.response["Error"]["Code"] == "ModelError"
        assert lost.value.response["OriginalStatusCode"] == 0
        for other in others:
            assert other.result() == pytest.approx(booster(1).prediction, rel=1e-6)


def test_sigterm_under_load_loses_no_request_that_had_arrived(tmp_path, bucket):
    for seed in range(3):
        bucket.put(f"{seed}.tar.gz", tarball(booster(seed).members))
    outcomes = []

    def call_until_refused(url, seed):
        with runtime_client(url) as client:
            while True:
                try:
                    answer = predict(client, f"{seed}.tar.gz")
                except ClientError as error:
                    outcomes.append(error.response["Error"]["Code"])
                    return
                except Exception as error:  # noqa: BLE001 - the kind is what is looked at
                    outcomes.append(type(error).__name__)
                    return
                outcomes.append(answer == pytest.approx(booster(seed).prediction, rel=1e-6))

    with serving(tmp_path, bucket.url(), *s3_flags(bucket)) as server:
        threads = [
            threading.Thread(target=call_until_refused, args=(server.url, number % 3))
            for number in range(6)
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(outcomes) > 200)
        assert server.stop() == 0
        for thread in threads:
            thread.join()
    assert False not in outcomes
    refusals = {outcome for outcome in outcomes if outcome is not True}
    assert refusals <= {"ServiceUnavailable", "EndpointConnectionError"}, refusals

"""The whole server with two fronts: boto3, a browser's requests, and what ends them."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import ssl
import threading
import time
import urllib.request

import boto3
import psutil
import pytest
from botocore.config import Config

from mme.config import load_config
from mme.errors import ConfigError
from tests.certificates import issue
from tests.engines import drop
from tests.models import CSV, booster
from tests.servers import predict, serving

pytestmark = pytest.mark.timeout(90)
MODEL, SECRET, OPERATORS = "acme/m.tar.gz", "the-secret-of-acme", "the-api-key-of-operators"
KEYS = f"""
[[keys]]
name = "acme"
access_key_id = "AKIDACME"
secret_access_key = "{SECRET}"

[[keys]]
name = "operators"
api_key = "{OPERATORS}"
actions = ["load", "admin"]
"""
HEADERS = {"Content-Type": "text/csv", "Accept": "text/csv", "X-Amzn-SageMaker-Target-Model": MODEL}


@pytest.fixture
def models(tmp_path):
    drop(tmp_path / "models", MODEL, booster(1).members)
    return tmp_path / "models"


def client(url, certificate, secret=SECRET):
    made = boto3.client(
        "sagemaker-runtime",
        endpoint_url=url,
        region_name="eu-central-1",
        aws_access_key_id="AKIDACME",
        aws_secret_access_key=secret,
        verify=str(certificate),
        config=Config(retries={"max_attempts": 0}),
    )
    return contextlib.closing(made)


def opened(url, certificate):
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {OPERATORS}"})
    context = ssl.create_default_context(cafile=certificate)
    return urllib.request.urlopen(request, timeout=20, context=context)


def fronts(url, certificate):
    with opened(f"{url}/state", certificate) as reply:
        return json.load(reply)["fronts"]


def glance(live):
    """The next one of a stream of events."""
    while not live.readline().startswith(b"event: glance"):
        pass
    return json.loads(live.readline().removeprefix(b"data: "))


def until(is_true):
    while not is_true():
        time.sleep(0.02)


def test_signed_requests_over_tls_and_the_console_go_through_both_and_end_with_the_server(
    tmp_path, models
):
    (tmp_path / "keys.toml").write_text(KEYS)
    cert, key = issue(tmp_path, "server")
    flags = ["--access-keys", str(tmp_path / "keys.toml")]
    flags += ["--tls-cert", str(cert), "--tls-key", str(key)]
    with serving(tmp_path, models, "--fronts", "2", *flags) as served:
        with contextlib.ExitStack() as stack:
            used = []
            while not used or not all(front["connections"] for front in used):
                acme = stack.enter_context(client(served.url, cert))
                attributes = 'a  b; c="d"'  # a blank less would be another signature
                value = predict(acme, MODEL, CustomAttributes=attributes)
                assert value == pytest.approx(booster(1).prediction)
                used = fronts(served.url, cert)
            stranger = stack.enter_context(client(served.url, cert, "another"))
            with pytest.raises(stranger.exceptions.ClientError, match="InvalidSignatureException"):
                predict(stranger, MODEL)

        with opened(f"{served.url}/console", cert) as page:
            assert b"<!doctype html>" in page.read()
        with opened(f"{served.url}/console/live", cert) as live:
            assert glance(live)["viewers"] == 1
            assert glance(live)["rates"]
        with opened(f"{served.url}/console/live", cert) as live:
            until(lambda: glance(live)["viewers"] == 1)  # the one before has left

        pids = [front["pid"] for front in used]
        assert all(map(psutil.pid_exists, pids))
        served.process.kill()
        served.process.wait()
        until(lambda: not any(map(psutil.pid_exists, pids)))


class Load(threading.Thread):
    """One connection that asks again when answered, until it is told that this was the last."""

    def __init__(self, port, asked_enough):
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.asked_enough = asked_enough
        self.asked, self.answers, self.error = 0, [], None

    def run(self):
        try:
            while True:
                self.asked += 1
                self.connection.request("POST", "/invocations", CSV, HEADERS)
                reply = self.connection.getresponse()
                self.answers.append((reply.status, float(reply.read())))
                if self.asked == 5:
                    self.asked_enough.release()
                if reply.getheader("Connection") == "close":
                    return
        except (OSError, http.client.HTTPException) as error:
            self.error = error
        finally:
            self.connection.close()


def test_sigterm_under_load_loses_no_request_that_arrived(tmp_path, models):
    with serving(tmp_path, models, "--fronts", "2") as served:
        port, asked_enough = int(served.url.rsplit(":", 1)[1]), threading.Semaphore(0)
        loads = [Load(port, asked_enough) for _ in range(16)]
        for load in loads:
            load.start()
        for _ in loads:
            assert asked_enough.acquire(timeout=30)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(timeout=40) == 0
        for load in loads:
            load.join(30)
            assert load.error is None
            assert [status for status, _ in load.answers] == [200] * load.asked
            values = {round(value, 6) for _, value in load.answers}
            assert values == {round(booster(1).prediction, 6)}


@pytest.mark.parametrize("count", ["0", "-1", "auto"])
def test_a_number_of_fronts_that_is_none_is_refused(count):
    with pytest.raises(ConfigError, match=r"fronts \(flags\): .*from 1 to"):
        load_config({"fronts": count, "models": "."}, {})

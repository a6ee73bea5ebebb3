"""The platform's side of the container contract, played against the server as it is started."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request

import psutil
import pytest

from tests.containers import HEAVY_BYTES, heavy, loading, put
from tests.models import CSV, booster
from tests.servers import serving

MANY = {"SAGEMAKER_MULTI_MODEL": "true"}
LOCAL = ("--host", "127.0.0.1")
SLEEPER = b"import time\n\ndef model_fn(model_dir):\n    time.sleep(60)\n"


def call(served, method, path, body=None, **headers):
    """Status and body; the platform's own client is as patient with a load."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(served.url + path, body, names, method=method)
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


def load(served, name, url):
    return call(served, "POST", "/models", loading(name, url), Content_Type="application/json")


def listed(served):
    status, body = call(served, "GET", "/models")
    assert status == 200
    return [model["modelName"] for model in json.loads(body)["models"]]


def until_ping(served, status):
    deadline = time.monotonic() + 15
    while (answer := call(served, "GET", "/ping"))[0] != status:
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)
    return answer[1]


def test_the_platform_polls_fills_is_refused_makes_room_and_starts_over_after_a_crash(tmp_path):
    urls = {name: put(tmp_path / "models", name, heavy()) for name in ("0a", "0b", "0c")}
    flags = (*LOCAL, "--memory", str(int(2.5 * HEAVY_BYTES)))
    with serving(tmp_path, None, *flags, environment=MANY) as served:
        until_ping(served, 200)
        assert listed(served) == []
        for name in ("0a", "0b"):
            assert load(served, name, urls[name])[0] == 200
            assert call(served, "POST", f"/models/{name}/invoke", b"x")[1] == b"8000000"
        assert load(served, "0a", urls["0a"])[0] == 409
        status, body = load(served, "0c", urls["0c"])
        assert (status, json.loads(body)["code"]) == (507, 507)
        assert call(served, "POST", "/models/0c/invoke", b"x")[0] == 404
        assert listed(served) == ["0a", "0b"]

        [worker] = served.state()["workers"]
        full_bytes = psutil.Process(worker["pid"]).memory_info().rss
        assert call(served, "DELETE", "/models/0a")[0] == 200
        assert psutil.Process(worker["pid"]).memory_info().rss < full_bytes - 0.9 * HEAVY_BYTES
        assert load(served, "0c", urls["0c"])[0] == 200
        assert call(served, "POST", "/models/0c/invoke", b"x")[1] == b"8000000"
        os.kill(served.process.pid, signal.SIGKILL)
        served.process.wait()
    with serving(tmp_path, None, *flags, environment=MANY) as served:
        until_ping(served, 200)
        assert listed(served) == []
        assert load(served, "0b", urls["0b"])[0] == 200
        assert listed(served) == ["0b"]


def test_one_model_in_its_directory_is_served_from_the_start_and_says_what_batches_may_be(tmp_path):
    trained = booster(1)
    url = put(tmp_path, "only", trained.members)
    environment = {
        "SM_MODEL_DIR": url,
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "6",
        "SAGEMAKER_CONTAINER_LOG_LEVEL": "20",
    }
    with serving(tmp_path, None, *LOCAL, environment=environment) as served:
        until_ping(served, 200)
        headers = {"Content_Type": "text/csv", "Accept": "text/csv"}
        status, body = call(served, "POST", "/invocations", CSV, **headers)
        assert (status, float(body)) == (200, pytest.approx(trained.prediction))
        status, body = call(served, "POST", "/invocations", b"1,2", **headers)
        assert (status, json.loads(body)["code"]) == (400, 400)
        status, body = call(served, "GET", "/execution-parameters")
        assert (status, json.loads(body)) == (
            200,
            {"MaxConcurrentTransforms": 1, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 6},
        )
        assert call(served, "GET", "/models")[0] == 404


def test_one_model_that_can_not_be_loaded_is_never_healthy_and_the_log_says_why(tmp_path):
    url = put(tmp_path, "only", {"readme.txt": b"no model"})
    with serving(tmp_path, url, *LOCAL, "--container", "single") as served:
        reason = until_ping(served, 500)
        assert b"readme.txt" in reason
    [told] = [line for line in served.log() if line["event"] == "model_unavailable"]
    assert "readme.txt" in told["reason"]


def test_sigterm_ends_it_in_time_even_while_a_model_is_being_loaded(tmp_path):
    url = put(tmp_path / "models", "0a", {"code/inference.py": SLEEPER})
    flags = (*LOCAL, "--drain-seconds", "1")
    with serving(tmp_path, None, *flags, environment=MANY) as served:
        body = loading("0a", url)
        head = f"POST /models HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        port = int(served.url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port)) as platform:
            platform.sendall(head.encode() + body)
            while not served.state()["loading"]:
                time.sleep(0.02)
            began = time.monotonic()
            assert served.stop() == 0
            assert time.monotonic() - began < 10
            assert b" 503 " in platform.recv(4096)

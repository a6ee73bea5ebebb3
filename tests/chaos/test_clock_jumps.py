"""A whole server's clock jumps: what it can't sign or verify is told, the rest goes on.

Its wall clock is libfaketime's, its monotonic clock the machine's; S3, its clients and this test
keep the right time.
"""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.buckets import Bucket
from tests.engines import tarball
from tests.models import CSV, booster
from tests.servers import Served, predict, serving

_LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
pytestmark = [
    pytest.mark.timeout(90),
    pytest.mark.skipif(not _LIBRARIES, reason="Debian's package libfaketime is not installed"),
]
API_KEY, SECRET = "the-api-key-of-operators", "the-secret-of-acme"
KEYS = f"""
[[keys]]
name = "acme"
access_key_id = "AKIDACME"
secret_access_key = "{SECRET}"

[[keys]]
name = "operators"
api_key = "{API_KEY}"
actions = ["invoke", "load", "admin"]
"""
_SECONDS = 20  # for what comes by itself


def is_model(seed: int) -> object:
    return pytest.approx(booster(seed).prediction, rel=1e-6)


class Jumped:
    """A server, and the hand that sets its clock."""

    def __init__(self, served: Served, clock: Path) -> None:
        self.served, self._clock = served, clock

    def jump(self, offset: str) -> None:
        """From now on its clock is off by so much, as libfaketime writes it."""
        fresh = self._clock.with_suffix(".new")
        fresh.write_text(offset)
        fresh.rename(self._clock)

    def get(self, path: str) -> bytes:
        headers = {"Authorization": f"Bearer {API_KEY}"}
        request = urllib.request.Request(self.served.url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=20) as reply:
            return bytes(reply.read())

    def ask(self, model: str) -> tuple[int, bytes]:
        """By API key, which no clock has a part in."""
        headers = {
            "Authorization": f"Bearer {API_KEY}",
            "X-Amzn-SageMaker-Target-Model": model,
            "Content-Type": "text/csv",
            "Accept": "text/csv",
        }
        url = f"{self.served.url}/endpoints/mme/invocations"
        request = urllib.request.Request(url, CSV, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def used(self) -> int:
        """m1's requests of the last hours, by the ledger, which takes them all in first."""
        models = json.loads(self.get("/ledger?since=30d"))["models"]
        return sum(each["requests"] for each in models if each["model"] == "m1")

    def answer(self, model: str) -> float:
        status, body = self.ask(model)
        assert status == 200, body
        return float(body)


@pytest.fixture
def jumped(tmp_path: Path, bucket: Bucket) -> Iterator[Jumped]:
    """Its models are in S3, which checks signatures, and so does it."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    (tmp_path / "keys.toml").write_text(KEYS)
    environment = {
        "LD_PRELOAD": str(_LIBRARIES[-1]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    flags = [
        *("--s3-endpoint", bucket.endpoint, "--access-keys", str(tmp_path / "keys.toml")),
        *("--refresh-seconds", "0.2", "--failure-seconds", "0.2"),
    ]
    with serving(tmp_path, bucket.url(), *flags, environment=environment) as served:
        yield Jumped(served, clock)


@contextlib.contextmanager
def signing(url: str) -> Iterator[object]:
    """boto3, whose clock is right."""
    client = boto3.client(
        "sagemaker-runtime",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="AKIDACME",
        aws_secret_access_key=SECRET,
        config=Config(retries={"max_attempts": 0}),
    )
    with contextlib.closing(client):
        yield client


def test_the_library_sets_the_clock(jumped: Jumped) -> None:
    """Or the other test would show nothing."""
    jumped.jump("+400d")
    assert jumped.ask("none")[0] != 200  # which has a line in the log
    times = [line["time"] for line in jumped.served.logged(event="request")]
    in_a_year = time.strftime("%Y-%m", time.gmtime(time.time() + 400 * 86_400))
    assert times
    assert times[-1].startswith(in_a_year)


def test_a_clock_that_jumps_keeps_warm_models_and_says_why_the_rest_fails(
    jumped: Jumped, bucket: Bucket
) -> None:
    for seed in (1, 2, 3, 4):
        bucket.put(f"m{seed}", tarball(booster(seed).members))
    with signing(jumped.served.url) as client:
        assert predict(client, "m1") == is_model(1)
        assert jumped.used() == 1  # which writes it down
        for offset, cold in (("+2h", "m2"), ("-400d", "m3"), ("+400d", "m4")):
            jumped.jump(offset)
            time.sleep(0.5)  # past m1's refresh: S3 is asked whether it changed, in vain
            assert jumped.answer("m1") == is_model(1)
            with pytest.raises(ClientError, match="InvalidSignatureException"):
                predict(client, "m1")
            status, body = jumped.ask(cold)
            assert status == 530
            assert "the right time" in json.loads(body)["Message"]
            assert jumped.get("/readyz")
            assert b"mme_loads_total" in jumped.get("/metrics")
        jumped.used()
        jumped.jump("+0")
        assert jumped.used() == 1  # of the hour that it is; those of other hours are in theirs
        assert predict(client, "m1") == is_model(1)
        for seed in (2, 3, 4):
            for _status in _until(lambda seed=seed: jumped.ask(f"m{seed}")[0], 200):
                pass  # its failed load is remembered for a while
            assert jumped.answer(f"m{seed}") == is_model(seed)
        bucket.put("m1", tarball(booster(4).members))
        answers = [*_until(lambda: jumped.answer("m1"), is_model(4))]
    assert jumped.used() == 1 + 1 + len(answers)
    _assert_nothing_is_left(jumped)


def _until(look: Callable[[], object], expected: object) -> Iterator[object]:
    """What was seen, the expected last."""
    until = time.monotonic() + _SECONDS
    seen = None
    while seen != expected:
        assert time.monotonic() < until, seen
        time.sleep(0.1)
        seen = look()
        yield seen


def _assert_nothing_is_left(jumped: Jumped) -> None:
    state = json.loads(jumped.get("/state"))
    memory = state["memory"]
    assert memory["reserved_bytes"] == memory["leaving_bytes"] == 0
    assert memory["resident_bytes"] == sum(model["bytes"] for model in state["models"])
    events = {line["event"] for line in jumped.served.log()}
    assert "internal_error" not in events
    assert "ledger_not_written" not in events
    assert "worker_ended" not in events

"""What is pushed to CloudWatch, by a real boto3 to a server of ours that checks signatures."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from mme.cloudwatch.datums import datums, look_at
from mme.cloudwatch.push import Push
from mme.config import CloudWatchConfig
from mme.metrics import Metrics
from tests.cloudwatches import KEY_ID, SECRET, cloudwatch, dimensions
from tests.engines import running_engine
from tests.eventually import eventually
from tests.raw_http import raw, reply, serve_raw

SAGEMAKER, INSTANCES = "AWS/SageMaker", "/aws/sagemaker/Endpoints"


@pytest.fixture
def watch(monkeypatch):
    with cloudwatch() as watch:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", watch.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        yield watch


def look(metrics):
    return look_at(metrics.registry.collect())


def statistics(told, name, container=""):
    [found] = [
        datum["StatisticValues"]
        for datum in told
        if datum["MetricName"] == name and dimensions(datum).get("ContainerName", "") == container
    ]
    return tuple(found[each] for each in ("SampleCount", "Sum", "Minimum", "Maximum"))


def test_a_period_is_told_as_sagemaker_tells_it():
    metrics = Metrics("endpoint", "variant")
    metrics.invocations.inc(100)
    before = look(metrics)
    metrics.invocations.inc(4)
    metrics.invocation_4xx.inc()
    for microseconds in (700.0, 3000.0, 4000.0):
        metrics.model_latency.observe(microseconds)
    for hit in (1, 1, 0):
        metrics.model_cache_hit.observe(hit)
    told = datums(before, look(metrics))
    assert statistics(told, "Invocations") == (4, 4, 1, 1)
    assert statistics(told, "Invocation4XXErrors") == (4, 1, 0, 1)
    assert statistics(told, "Invocation5XXErrors") == (4, 0, 0, 0)
    assert statistics(told, "ModelLatency") == (3, 7700, 500, 5000)  # its buckets' ends
    assert statistics(told, "ModelCacheHit") == (3, 2, 0, 1)
    units = {datum["MetricName"]: datum["Unit"] for datum in told}
    assert (units["ModelLatency"], units["ModelCacheHit"]) == ("Microseconds", "None")
    assert {tuple(dimensions(datum)) for datum in told} == {("EndpointName", "VariantName")}
    assert datums(look(metrics), look(metrics)) == []


def test_least_and_most_never_contradict_the_mean():
    metrics = Metrics("endpoint", "variant")
    metrics.model_latency.observe(90e6)  # past the last bucket
    assert statistics(datums({}, look(metrics)), "ModelLatency") == (1, 90e6, 60e6, 90e6)


def test_each_container_has_a_dimension_of_its_own():
    metrics = Metrics("endpoint", "variant")
    for name, count in (("first", 2), ("second", 3)):
        metrics.of_container(name).invocations.inc(count)
        metrics.of_container(name).latency.observe(1000)
    told = datums({}, look(metrics))
    assert statistics(told, "Invocations", "second") == (3, 3, 1, 1)
    assert statistics(told, "ContainerLatency", "first")[:2] == (1, 1000)


async def test_what_could_not_be_sent_is_in_the_next_push(watch):
    metrics = Metrics("endpoint", "variant")
    push = Push(CloudWatchConfig(push="on"), "eu-west-1", metrics, dict)
    watch.status = 400
    metrics.invocations.inc(2)
    await push.push()
    assert (watch.refused, watch.puts) == (1, [])
    watch.status = 200
    metrics.invocations.inc(3)
    await push.push()
    assert watch.take(SAGEMAKER)["Invocations", ""]["StatisticValues"]["Sum"] == 5
    watch.puts.clear()
    await push.push()
    assert watch.take(SAGEMAKER) == {}
    ending = asyncio.create_task(push.run())
    await asyncio.sleep(0)
    metrics.invocations.inc()
    ending.cancel()
    await asyncio.wait([ending])
    assert watch.take(SAGEMAKER)["Invocations", ""]["StatisticValues"]["Sum"] == 1


@pytest.mark.parametrize(
    "answer",
    [
        reply("400 Bad Request", "<p>zur\xfcck</p>".encode("latin-1")),
        reply("502 Bad Gateway", b"\x81\x01"),
        reply("403 Forbidden", b"{", content_type="application/x-amz-json-1.0"),
        raw(b"no HTTP\r\n\r\n"),
    ],
    ids=["latin-1", "binary", "broken", "no http"],
)
async def test_an_answer_that_is_none_is_a_push_that_failed(watch, monkeypatch, answer):
    async with serve_raw(answer) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", proxy.endpoint)
        config = CloudWatchConfig(push="on", period_seconds=60.0)
        push = Push(config, "eu-central-1", Metrics("endpoint", "variant"), dict)
        with capture_logs() as lines:
            for _ in range(2):
                await push.push()
        push._client.close()
    assert [line["event"] for line in lines] == ["cloudwatch_not_reached"]


async def test_an_engine_pushes_how_much_of_the_machine_is_in_use(watch, tmp_path):
    settings = {"cloudwatch": "on", "cloudwatch_seconds": 0.2}
    async with running_engine(tmp_path, **settings):
        await eventually(lambda: watch.take(INSTANCES), 0.02)
        told = watch.take(INSTANCES)
        assert told["LoadedModelCount", ""]["Value"] == 0
        for name in ("MemoryUtilization", "DiskUtilization"):
            assert 0 < told[name, ""]["Value"] <= 100
        assert told["CPUUtilization", ""]["Value"] >= 0
        assert dimensions(told["CPUUtilization", ""]) == {
            "EndpointName": "mme",
            "VariantName": "AllTraffic",
        }


def test_off_it_costs_not_even_an_import():
    code = (
        "import mme.app.engine, sys; print([n for n in ('boto3', 'botocore') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")

"""One line a request, with everything that tells why it took so long or failed."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from mme import logs
from mme.domain import Reply, Timings
from mme.errors import (
    InvalidRequest,
    ModelError,
    ModelNotReady,
    PredictionFailed,
    StoreUnavailable,
)
from tests.rooms.front_double import NAME, FakeService, connected, serving


@pytest.fixture
def lines():
    with capture_logs() as events:
        yield events


def failing(error: Exception) -> FakeService:
    def respond(_invocation):
        raise error

    return FakeService(respond)


def requests(lines) -> list[dict]:
    return [line for line in lines if line["event"] == logs.REQUEST]


async def test_a_good_request_leaves_one_line_with_all_there_is_to_know(lines):
    timings = Timings(load_seconds=0.5, queue_seconds=0.25, predict_seconds=0.125)
    reply = Reply(
        body=b"0.75", content_type="a/b", variant="blue", cache_hit=False, timings=timings
    )
    async with serving(FakeService(lambda _: reply)) as front, connected(front) as wire:
        wire.post(
            b"1,2", x_amzn_sagemaker_target_model="t/m", x_amzn_sagemaker_custom_attributes="s"
        )
        response = await wire.response()
    (line,) = requests(lines)
    assert 0 < line.pop("seconds") < 10
    assert line == {
        "event": "request",
        "log_level": "info",
        "request_id": response.headers["x-amzn-requestid"],
        "route": "invocations",
        "endpoint": NAME,
        "variant": "blue",
        "model": "t/m",
        "cache": "miss",
        "load_seconds": 0.5,
        "queue_seconds": 0.25,
        "predict_seconds": 0.125,
        "bytes_in": 3,
        "bytes_out": 4,
        "status": 200,
        "outcome": "ok",
    }


@pytest.mark.parametrize(
    ("error", "level", "status"),
    [
        (InvalidRequest("why"), "info", 400),
        (PredictionFailed("why"), "warning", 424),
        (ModelNotReady("why"), "warning", 429),
        (StoreUnavailable("why"), "error", 530),
        (RuntimeError("why"), "error", 500),
    ],
)
async def test_severity_follows_the_fault(lines, error, level, status):
    async with serving(failing(error)) as front, connected(front) as wire:
        wire.post(b"x")
        await wire.response()
    (line,) = requests(lines)
    assert (line["log_level"], line["status"]) == (level, status)
    assert (line["outcome"], line["reason"]) == (type(error).__name__, "why")
    tracebacks = [line for line in lines if line["event"] == logs.INTERNAL_ERROR]
    assert [line["exc_info"] for line in tracebacks] == (
        [error] if isinstance(error, RuntimeError) else []
    )


async def test_a_client_that_went_away_is_on_record(lines):
    service = FakeService(gate=asyncio.Event())
    async with serving(service) as front:
        async with connected(front) as wire:
            wire.post(b"x")
            await service.entered.wait()
        await service.cancelled.wait()
    (line,) = requests(lines)
    assert (line["status"], line["outcome"], line["log_level"]) == (499, "CancelledError", "info")


async def test_probes_are_quiet_and_what_is_no_http_is_one_line(lines):
    async with serving(FakeService()) as front:
        async with connected(front) as wire:
            wire.get("/livez")
            await wire.response()
        async with connected(front) as wire:
            wire.send(b"nonsense\r\n\r\n")
            await wire.closed()
    assert [(line["route"], line["log_level"]) for line in requests(lines)] == [
        ("livez", "debug"),
        ("unreadable", "info"),
    ]


async def test_models_are_counted_by_what_they_answered():
    labels = {"EndpointName": NAME, "VariantName": "AllTraffic"}
    service = FakeService()
    async with serving(service) as front, connected(front) as wire:
        for status in (400, 500, 0):
            service.respond = failing(ModelError("m", status)).respond
            wire.post(b"x")
            assert (await wire.response()).status == 424
        sample = front._recorder._metrics.registry.get_sample_value
    assert sample("Invocation4XXErrors_total", labels) == 1
    assert sample("Invocation5XXErrors_total", labels) == 1
    assert sample("InvocationModelErrors_total", labels) == 3


async def test_of_many_good_requests_some_have_a_line_and_every_failure_has(lines):
    replies = iter([Reply(body=b"1", content_type="a/b")] * 40)

    def respond(_invocation):
        if (reply := next(replies, None)) is None:
            raise PredictionFailed("no more")
        return reply

    service = FakeService(respond)
    async with serving(service, log_requests_per_second=10) as front, connected(front) as wire:
        for _ in range(41):
            wire.post(b"1,2")
            await wire.response()
    told = requests(lines)
    good = [line for line in told if line["outcome"] == "ok"]
    assert 10 <= len(good) <= 20  # a second may end in between
    assert sum(1 + line.get("unlogged", 0) for line in good) <= 40
    assert [line["outcome"] for line in told][-1] == "PredictionFailed"

"""The front over real sockets: bodies, limits, times, clients that go away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from functools import partial

import pytest

from mme.domain import Reply
from mme.errors import ConfigError, InvalidRequest
from mme.front.server import Front
from mme.metrics import Metrics
from tests.eventually import eventually
from tests.rooms.front_double import NAME, FakeService, connected, serving


def raising(error: Exception):
    def respond(_invocation):
        raise error

    return respond


async def test_an_invocation_is_answered_and_the_connection_kept():
    service = FakeService()
    async with serving(service) as front, connected(front) as wire:
        for body in (b"1,2", b"", b"3"):
            wire.post(body, content_type="text/csv", x_amzn_sagemaker_target_model="/a/b c.tar.gz")
            response = await wire.response()
            assert (response.status, response.body) == (200, body)
            assert response.headers["content-type"] == "text/csv"
            assert response.headers["x-amzn-invoked-production-variant"] == "AllTraffic"
            uuid.UUID(response.headers["x-amzn-requestid"])
    assert {invocation.target_model for invocation in service.seen} == {"a/b c.tar.gz"}
    assert {invocation.endpoint for invocation in service.seen} == {NAME}


async def test_utf8_in_a_header_arrives_and_anything_else_is_refused():
    service = FakeService()
    async with serving(service) as front, connected(front) as wire:
        wire.post(x_amzn_sagemaker_target_model="modél.tar.gz")
        assert (await wire.response()).status == 200
        wire.send(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
            b"X-Amzn-SageMaker-Target-Model: mod\xe9l\r\n\r\n"
        )
        assert (await wire.response()).status == 400
    assert service.seen[0].target_model == "modél.tar.gz"


async def test_the_endpoint_in_the_path_is_passed_on_decoded_and_checked():
    service = FakeService()
    async with serving(service) as front, connected(front) as wire:
        wire.post(path="/endpoints/other%2Done/invocations")
        assert (await wire.response()).status == 200
        wire.post(path="/endpoints/bad%20name/invocations")
        assert (await wire.response()).status == 400
    assert [invocation.endpoint for invocation in service.seen] == ["other-one"]


async def test_a_deadline_starts_when_the_body_is_there():
    service = FakeService()
    async with serving(service, invocation_seconds=60.0) as front, connected(front) as wire:
        wire.post(b"x")
        await wire.response()
    left = service.seen[0].deadline - asyncio.get_running_loop().time()
    assert 55 < left <= 60


async def test_a_body_over_the_limit_is_refused_before_it_is_sent():
    service = FakeService()
    async with serving(service, body_limit_bytes=10) as front, connected(front) as wire:
        wire.send(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n")
        response = await wire.response()
        assert response.status == 413
        assert json.loads(response.body) == {"Message": "HTTP content length exceeded 10 bytes."}
        assert response.headers["connection"] == "close"
    assert service.seen == []


async def test_a_body_at_the_limit_is_accepted():
    async with serving(FakeService(), body_limit_bytes=10) as front, connected(front) as wire:
        wire.post(b"0123456789")
        assert (await wire.response()).status == 200


CHUNKED = b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_chunked_body_is_put_together():
    async with serving(FakeService()) as front, connected(front) as wire:
        wire.send(CHUNKED + b"3\r\nabc\r\n")
        wire.send(b"2\r\nde\r\n0\r\n\r\n")
        assert (await wire.response()).body == b"abcde"


@pytest.mark.parametrize(
    "pieces", [[b"6\r\nabcdef\r\n0\r\n\r\n"], [b"3\r\nabc\r\n", b"3\r\ndef\r\n"]]
)
async def test_a_chunked_body_over_the_limit_is_refused_as_soon_as_it_is(pieces):
    service = FakeService()
    async with serving(service, body_limit_bytes=5) as front, connected(front) as wire:
        wire.send(CHUNKED)
        for piece in pieces:
            wire.send(piece)
        assert (await wire.response()).status == 413
    assert service.seen == []


async def test_a_malformed_chunk_is_the_clients_fault():
    service = FakeService()
    async with serving(service) as front:
        async with connected(front) as wire:
            wire.send(CHUNKED + b"zz\r\nabc\r\n")
            assert (await wire.response()).status == 400
        async with connected(front) as wire:
            wire.post(b"x")
            assert (await wire.response()).status == 200
    assert len(service.seen) == 1


async def test_a_large_body_comes_and_goes_whole():
    body = bytes(range(256)) * 20_000
    async with serving(FakeService()) as front, connected(front) as wire:
        wire.post(body)
        assert (await wire.response()).body == body


async def test_a_client_that_asks_first_is_told_to_go_on():
    async with serving(FakeService(), body_limit_bytes=10) as front, connected(front) as wire:
        head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        wire.send(head + b"Content-Length: 2\r\n\r\n")
        assert (await wire.response()).status == 100
        wire.send(b"ab")
        assert (await wire.response()).body == b"ab"
        wire.send(head + b"Content-Length: 11\r\n\r\n")
        assert (await wire.response()).status == 413


async def test_a_body_that_comes_too_slowly_is_given_up():
    service = FakeService()
    async with serving(service, body_seconds=0.2) as front, connected(front) as wire:
        wire.send(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        response = await wire.response()
        assert response.status == 408
        assert "0.2 seconds" in json.loads(response.body)["Message"]
        assert await wire.closed() == b""
    assert service.seen == []


@pytest.mark.parametrize("sent", [b"", b"POST /invocations HTTP/1.1\r\nHost"])
async def test_a_client_that_says_nothing_or_half_is_cut_off(sent):
    async with serving(FakeService(), body_seconds=0.2) as front, connected(front) as wire:
        wire.send(sent)
        assert await wire.closed() == b""


async def test_a_kept_connection_that_stays_idle_is_closed():
    async with serving(FakeService(), body_seconds=0.2) as front, connected(front) as wire:
        wire.get("/livez")
        await wire.response()
        assert await wire.closed() == b""


async def test_a_slow_model_does_not_count_as_a_slow_client():
    service = FakeService(gate=asyncio.Event())
    async with serving(service, body_seconds=0.3) as front, connected(front) as wire:
        wire.send(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        async with connected(front) as other:
            other.get("/livez")
            await other.response()  # so the request waits for the rest of its body
            wire.send(b"b")
            await service.entered.wait()
            await other.closed()  # so the time for a body has passed
        service.gate.set()
        assert (await wire.response()).body == b"ab"


async def test_an_answer_that_nobody_reads_is_given_up():
    big = Reply(body=bytes(30_000_000), content_type="a/b")
    async with (
        serving(FakeService(lambda _: big), body_seconds=0.3) as front,
        connected(front) as wire,
    ):
        wire.reader._transport.pause_reading()
        wire.post(b"x")
        async with asyncio.timeout(10):
            while front._is_connected():
                async with connected(front) as other:  # lives as long as the patience does
                    await other.closed()
        wire.reader._transport.resume_reading()
        assert len(await wire.closed()) < len(big.body)


async def test_the_last_of_an_answer_that_nobody_reads_keeps_no_connection():
    small = Reply(body=bytes(50_000), content_type="a/b")
    async with (
        serving(FakeService(lambda _: small), body_seconds=0.3) as front,
        connected(front) as wire,
    ):
        wire.reader._transport.pause_reading()
        await eventually(front._is_connected)
        (connection,) = front._listeners[0]._connections.connections
        seen, posted = front._service.seen, 0
        while not connection.transport.get_write_buffer_size():  # sockets hold a lot
            wire.post(b"x")
            posted += 1
            await eventually(partial(lambda count: len(seen) == count, posted))
            await asyncio.sleep(0.01)  # for it to be written
        assert not connection._paused  # too little for that
        await eventually(lambda: not front._is_connected())


async def test_an_answer_that_is_read_by_drops_is_given_up():
    big = Reply(body=bytes(30_000_000), content_type="a/b")
    async with (
        serving(FakeService(lambda _: big), body_seconds=0.3) as front,
        connected(front) as wire,
    ):
        wire.post(b"x")
        taken = 0
        async with asyncio.timeout(15):
            while piece := await wire.reader.read(1000):
                taken += len(piece)
                if front._is_connected():
                    async with connected(front) as other:  # lives as long as the patience does
                        await other.closed()
        assert taken < len(big.body)


async def test_a_client_that_goes_away_cancels_its_request():
    service = FakeService(gate=asyncio.Event())
    async with serving(service) as front:
        async with connected(front) as wire:
            wire.post(b"x")
            await service.entered.wait()
        await service.cancelled.wait()
        async with connected(front) as wire:
            wire.get("/livez")
            assert (await wire.response()).status == 200
        assert not front._in_flight


async def test_a_client_that_goes_away_in_mid_body_reaches_no_model():
    service = FakeService()
    async with serving(service) as front:
        async with connected(front) as wire:
            wire.send(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
            async with connected(front) as other:
                other.get("/livez")
                await other.response()
        async with connected(front) as wire:
            wire.post(b"x")
            assert (await wire.response()).status == 200
    assert [invocation.body for invocation in service.seen] == [b"x"]


async def test_pipelined_requests_are_answered_in_order():
    async with serving(FakeService()) as front, connected(front) as wire:
        for number in range(50):
            wire.post(b"%d" % number)
        assert [(await wire.response()).body for _ in range(50)] == [b"%d" % n for n in range(50)]


async def test_an_unexpected_error_shows_nothing_and_serves_on():
    service = FakeService(raising(RuntimeError("secret")))
    async with serving(service) as front, connected(front) as wire:
        for _ in range(2):
            wire.post(b"x")
            response = await wire.response()
            assert response.status == 500
            assert response.headers["x-amzn-errortype"] == "InternalFailure"
            assert b"secret" not in response.body


async def test_a_timeout_of_the_services_own_is_no_slow_client():
    async with serving(FakeService(raising(TimeoutError()))) as front, connected(front) as wire:
        wire.post(b"x")
        assert (await wire.response()).status == 500


async def test_an_unknown_path_and_a_wrong_method_are_told_apart():
    async with serving(FakeService()) as front, connected(front) as wire:
        for path, status, allow in (("/nope", 404, None), ("/invocations", 405, "POST")):
            wire.get(path)
            response = await wire.response()
            assert (response.status, response.headers.get("allow")) == (status, allow)
            assert path in json.loads(response.body)["Message"]
            assert response.headers["x-amzn-requestid"]


@pytest.mark.parametrize("operation", ["async-invocations", "invocations-response-stream"])
async def test_operations_of_other_kinds_of_endpoint_say_so(operation):
    async with serving(FakeService()) as front, connected(front) as wire:
        wire.post(path=f"/endpoints/{NAME}/{operation}")
        response = await wire.response()
        assert response.status == 400
        assert response.headers["x-amzn-errortype"] == "ValidationError"
        assert f"not supported by endpoint {NAME}" in json.loads(response.body)["Message"]


async def test_operators_see_whether_it_lives_is_ready_and_what_it_holds():
    service = FakeService()
    async with serving(service) as front, connected(front) as wire:
        answers = {}
        for reasons in ([], ["no worker is ready"]):
            service.reasons = reasons
            for path in ("/ping", "/readyz", "/livez", "/state", "/metrics"):
                wire.get(path)
                answers[path, bool(reasons)] = await wire.response()
    assert {key: answer.status for key, answer in answers.items() if answer.status != 200} == {
        ("/ping", True): 503,
        ("/readyz", True): 503,
    }
    assert answers["/ping", False].body == b""
    assert json.loads(answers["/readyz", True].body)["reasons"] == ["no worker is ready"]
    assert json.loads(answers["/state", False].body) == {"models": []}
    assert answers["/metrics", False].headers["content-type"].startswith("text/plain; version=")


async def test_a_port_that_is_taken_is_a_matter_of_configuration():
    async with serving(FakeService()) as front:
        config = front._config.__class__(port=front.port)
        with pytest.raises(ConfigError, match=str(front.port)):
            await Front(FakeService(), config, Metrics("e", "v")).start()


async def test_requests_and_their_outcomes_are_counted():
    service = FakeService()
    async with serving(service) as front, connected(front) as wire:
        wire.post(b"x")
        await wire.response()
        service.respond = raising(InvalidRequest("no"))
        wire.post(b"x")
        await wire.response()
        sample = front._recorder._metrics.registry.get_sample_value
    labels = {"EndpointName": NAME, "VariantName": "AllTraffic"}
    assert sample("Invocations_total", labels) == 2
    assert sample("ModelLatency_count", labels) == 1
    assert sample("mme_requests_total", {"route": "invocations", "status": "200"}) == 1
    assert sample("mme_requests_total", {"route": "invocations", "status": "400"}) == 1


async def test_bodies_beyond_what_all_may_have_are_refused_before_they_are_read():
    settings = {"bodies_limit_bytes": 100_000}
    async with serving(FakeService(), **settings) as front, connected(front) as first:
        head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"
        first.send(head + b"x")
        async with connected(front) as second:
            await eventually(lambda: front.bodies.held_bytes)
            second.send(head)
            response = await second.response()
            assert (response.status, response.headers["retry-after"]) == (503, "1")
        first.send(b"x" * 59_999)
        assert (await first.response()).status == 200
        assert front.bodies.held_bytes == 0


async def test_who_announces_much_and_sends_it_slowly_leaves_room_for_others():
    async with serving(FakeService(), bodies_limit_bytes=200_000) as front:
        async with contextlib.AsyncExitStack() as crowd:
            for _ in range(20):
                slow = await crowd.enter_async_context(connected(front))
                slow.send(
                    b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\nx"
                )
            await eventually(lambda: front.bodies.held_bytes == 100_000)
            other = await crowd.enter_async_context(connected(front, source="127.0.0.2"))
            other.send(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n")
            other.send(b"x" * 90_000)
            assert (await other.response()).status == 200
        await eventually(lambda: front.bodies.held_bytes == 0)

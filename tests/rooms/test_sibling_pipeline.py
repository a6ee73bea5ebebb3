"""Two containers over HTTP in a pipeline: what each is sent, and whose name a failure carries."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from mme.containers.health import Health
from mme.containers.sibling import Sibling
from mme.errors import HandoverTooLarge, SiblingFailed, SiblingSilent
from mme.metrics import Metrics
from mme.routing.catalog import Catalog, Endpoint, Variant
from mme.routing.pipeline import Pipeline
from tests.raw_http import raw, reply, silent_after
from tests.siblings import asked, sibling

LIMIT_BYTES = 5 * 1024**2
TOO_LARGE = os.urandom(LIMIT_BYTES + 1)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def failures(metrics, container):
    labels = {"EndpointName": "e", "VariantName": "v", "ContainerName": container}
    names = (f"ContainerInvocation{digit}XXErrors_total" for digit in (4, 5))
    return sum(metrics.registry.get_sample_value(name, labels) for name in names)


@asynccontextmanager
async def piped(first, second):
    metrics = Metrics("e", "v")
    async with sibling(first) as (pre, pre_server), sibling(second, name="post") as (post, server):
        containers = []
        for client in (pre, post):
            own = metrics.of_container(client.name)
            health = Health(
                client.name, client.ping, startup_seconds=1, metrics=own, on_recovery=dict
            )
            containers.append(Sibling(client, health, own))
        endpoint = Endpoint(name="e", variants=(Variant(name="v", containers=tuple(containers)),))
        catalog = Catalog(account_id="1", endpoints={"e": endpoint})
        yield SimpleNamespace(
            invoke=Pipeline(catalog, LIMIT_BYTES).invoke,
            first=pre_server,
            second=server,
            failures=lambda: [failures(metrics, name) for name in ("pre", "post")],
        )


async def test_types_and_attributes_go_on_verbatim_and_accept_to_the_last_only():
    first = reply("200 OK", b"3,4", Content_Type="text/csv; charset=utf-8")
    last = reply("200 OK", b"7", Content_Type="text/plain", X_Amzn_SageMaker_Custom_Attributes="b")
    async with piped(first, last) as pipe:
        given = await pipe.invoke(
            asked(content_type="application/json", accept="text/plain", custom_attributes="a")
        )
        assert (given.body, given.content_type, given.custom_attributes) == (
            b"7",
            "text/plain",
            "b",
        )
        assert [hop.container for hop in given.hops] == ["pre", "post"]
        heads = [set(server.requests[0].split(b"\r\n")) for server in (pipe.first, pipe.second)]
    assert b"Content-Type: application/json" in heads[0]
    assert not any(line.startswith(b"Accept") for line in heads[0])
    assert b"Content-Type: text/csv; charset=utf-8" in heads[1]
    assert b"Accept: text/plain" in heads[1]
    assert all(b"X-Amzn-SageMaker-Custom-Attributes: a" in head for head in heads)


@pytest.mark.parametrize("announced", [True, False])
async def test_an_answer_too_large_for_the_next_one_is_not_sent_to_it(announced):
    answer = reply("200 OK", TOO_LARGE)
    if not announced:
        answer = raw(CHUNKED + b"%x\r\n" % len(TOO_LARGE) + TOO_LARGE + b"\r\n0\r\n\r\n")
    async with piped(answer, reply("200 OK", b"never")) as pipe:
        with pytest.raises(HandoverTooLarge, match="from pre to post") as caught:
            await pipe.invoke(asked())
        assert caught.value.container == "pre"
        assert pipe.second.requests == []
        assert pipe.failures() == [1, 0]


async def test_a_failing_container_is_named_and_the_next_is_not_called():
    async with piped(reply("415 No", b"csv only"), reply("200 OK", b"never")) as pipe:
        with pytest.raises(SiblingFailed, match="csv only") as caught:
            await pipe.invoke(asked())
        assert (caught.value.container, caught.value.original_status) == ("pre", 415)
        assert pipe.second.requests == []
        assert pipe.failures() == [1, 0]


@pytest.mark.parametrize("read_by_the_next", [True, False])
async def test_an_answer_that_breaks_off_is_never_the_fault_of_the_next(read_by_the_next):
    cut = TOO_LARGE[:100_000]
    first = reply("200 OK", cut, announce=1_000_000) if read_by_the_next else raw(CHUNKED + b"ff")
    async with piped(first, silent_after(b"")) as pipe:
        with pytest.raises(SiblingSilent, match=r"Container pre .* its answer broke off") as caught:
            await pipe.invoke(asked())
        assert caught.value.container == "pre"
        assert pipe.failures()[1] == 0

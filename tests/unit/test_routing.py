"""Which containers answer, and the walk over them, with containers that do as they are told."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from mme.domain import BodyStream, Handover, Invocation, ModelKey, Reply
from mme.errors import HandoverTooLarge, InvalidRequest, ModelError, PredictionFailed
from mme.metrics import Metrics
from mme.routing.catalog import Catalog, Endpoint, Variant
from mme.routing.choose import choose
from mme.routing.pipeline import Pipeline

METRICS = Metrics("shop", "AllTraffic")
LIMIT_BYTES = 1000


@dataclass
class Scripted:
    """Answers with its name around what it was asked; notes what that was."""

    hostname: str
    multi_model: bool = False
    fails: Exception | None = None
    streams: tuple[bytes, ...] = ()  # instead, for the next container
    announced: int | None = None
    attributes: str | None = None
    content_type: str = "text/csv; charset=utf-8"
    seen: list[Invocation] = field(default_factory=list)
    left: bool = False

    def __post_init__(self):
        self.metrics = METRICS.of_container(self.hostname)

    async def invoke(self, invocation):
        body = invocation.body
        body = body if isinstance(body, bytes) else await body.read()
        self.seen.append(replace(invocation, body=body))
        if self.fails is not None:
            raise self.fails
        return Reply(
            body=self.hostname.encode() + b"(" + body + b")",
            content_type=self.content_type,
            custom_attributes=self.attributes,
        )

    @asynccontextmanager
    async def open(self, invocation):
        reply = await self.invoke(invocation)
        body = BodyStream(chunks=self._chunks(), length_bytes=self.announced)
        try:
            yield Handover(
                body=body if self.streams else reply.body,
                content_type=reply.content_type,
                custom_attributes=reply.custom_attributes,
            )
        finally:
            self.left = True

    async def _chunks(self):
        for chunk in self.streams:
            await asyncio.sleep(0)
            if chunk == b"!":
                error = PredictionFailed("it broke off", 0)
                error.container = self.hostname
                raise error
            yield chunk


def catalog(*containers, direct=False):
    variant = Variant(name="AllTraffic", containers=containers, direct=direct)
    return Catalog(
        account_id="000000000000", endpoints={"shop": Endpoint(name="shop", variants=(variant,))}
    )


def asked(**fields):
    values = {
        "request_id": "r-1",
        "endpoint": "shop",
        "body": b"1,2",
        "content_type": "application/json",
        "accept": "text/plain",
        "deadline": 1e9,
    }
    return Invocation(**values | fields)


async def walk(*containers, **fields):
    return await Pipeline(catalog(*containers), LIMIT_BYTES).invoke(asked(**fields))


def count(name, container):
    labels = {"EndpointName": "shop", "VariantName": "AllTraffic", "ContainerName": container}
    return METRICS.registry.get_sample_value(name, labels) or 0.0


def refusal(*containers, direct=False, **fields):
    with pytest.raises(InvalidRequest) as refused:
        choose(catalog(*containers, direct=direct), asked(**fields), 0.0)
    return str(refused.value)


def test_a_direct_call_goes_to_the_container_it_names():
    first, second = Scripted("first"), Scripted("second")
    route = choose(catalog(first, second, direct=True), asked(target_container="second"), 0.0)
    assert route.containers == (second,)


def test_a_direct_call_that_names_none_or_an_unknown_one_is_told_which_there_are():
    pair = Scripted("first"), Scripted("second")
    missing = refusal(*pair, direct=True)
    unknown = refusal(*pair, direct=True, target_container="third")
    assert "missing a target container hostname header" in missing
    assert "Container third of endpoint shop not found" in unknown
    assert all("first, second" in message for message in (missing, unknown))


def test_a_hostname_is_out_of_place_in_a_pipeline_and_before_a_single_container():
    says = "does not support target container hostname header"
    assert says in refusal(Scripted("a"), Scripted("b"), target_container="a")
    assert says in refusal(Scripted("a"), target_container="a")


def test_a_target_model_is_refused_where_the_called_container_has_no_models():
    pair = Scripted("plain"), Scripted("models", multi_model=True)
    says = "is not a multi-model endpoint and does not support target model header"
    model = ModelKey("m.tar.gz")
    assert says in refusal(*pair, direct=True, target_container="plain", target_model=model)
    assert choose(
        catalog(*pair, direct=True), asked(target_container="models", target_model=model), 0.0
    )


async def test_what_one_answers_is_the_nexts_body_and_type_and_accept_is_the_lasts():
    first, second, third = Scripted("a"), Scripted("b", multi_model=True), Scripted("c")
    reply = await walk(first, second, third, target_model=ModelKey("m"), custom_attributes="x=1")
    assert reply.body == b"c(b(a(1,2)))"
    assert [each.seen[0].content_type for each in (first, second, third)] == [
        "application/json", "text/csv; charset=utf-8", "text/csv; charset=utf-8",
    ]  # fmt: skip
    assert [each.seen[0].accept for each in (first, second, third)] == [None, None, "text/plain"]
    assert [each.seen[0].target_model for each in (first, second, third)] == [None, "m", None]
    assert {each.seen[0].custom_attributes for each in (first, second, third)} == {"x=1"}
    assert [hop.container for hop in reply.hops] == ["a", "b", "c"]
    assert reply.variant == "AllTraffic"


async def test_the_last_custom_attributes_that_a_container_sets_go_back():
    first, second = Scripted("a", attributes="from=a"), Scripted("b")
    assert (await walk(first, second)).custom_attributes == "from=a"
    second.attributes = "from=b"
    assert (await walk(first, second)).custom_attributes == "from=b"


async def test_a_failing_stage_is_named_and_later_ones_are_not_called():
    first, second, third = Scripted("d"), Scripted("e"), Scripted("f")
    second.fails = PredictionFailed("no such column", 400)
    before = count("ContainerInvocation4XXErrors_total", "e")
    with pytest.raises(PredictionFailed) as failed:
        await walk(first, second, third)
    assert failed.value.container == "e"
    assert third.seen == []
    assert count("ContainerInvocation4XXErrors_total", "e") == before + 1
    assert count("ContainerInvocations_total", "f") == 0


@pytest.mark.parametrize("announced", [None, 600])
async def test_a_body_that_streams_arrives_whole(announced):
    first = Scripted("a", streams=(b"x" * 300, b"y" * 300), announced=announced)
    reply = await walk(first, second := Scripted("b"))
    assert second.seen[0].body == b"x" * 300 + b"y" * 300
    assert reply.body == b"b(" + second.seen[0].body + b")"
    assert first.left


@pytest.mark.parametrize("announced", [None, 1001])
async def test_a_body_over_the_limit_is_refused_before_the_next_container_is_called(announced):
    first = Scripted("a", streams=(b"x" * 500, b"y" * 501), announced=announced)
    with pytest.raises(HandoverTooLarge, match=r"from a to b is 1001 bytes") as failed:
        await walk(first, second := Scripted("b"))
    assert second.seen == []
    assert first.left
    assert failed.value.container == "a"


async def test_a_body_that_breaks_off_is_the_fault_of_who_sent_it():
    first = Scripted("g", streams=(b"x", b"!"), announced=2)
    before = count("ContainerInvocation5XXErrors_total", "h")
    with pytest.raises(ModelError) as failed:
        await walk(first, Scripted("h"))
    assert failed.value.container == "g"
    assert count("ContainerInvocation5XXErrors_total", "h") == before

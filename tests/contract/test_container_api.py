"""The container contract, each route and status: what is asked, and the answer to the letter."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mme.config import ServerConfig
from mme.domain import ModelKey
from mme.errors import (
    Draining,
    InvocationTimeout,
    LoadFailed,
    MemoryRefused,
    ModelMissing,
    Overloaded,
    PredictionFailed,
    WorkerLost,
)
from mme.front.dialects import Management
from mme.front.server import Front
from mme.metrics import Metrics
from mme.store.registered import RegisteredDirectories
from tests.containers import call, container, loading, put
from tests.engines import drop
from tests.models import CSV, booster
from tests.rooms.front_double import FakeService

MODEL = booster(1)


class Shelf:
    """Hosted models that load at once, or fail as told."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.directories, self.failure = RegisteredDirectories(), failure

    def names(self):
        return self.directories.keys()

    def url(self, key):
        return str(self.directories.directory(key))

    async def load(self, key, url):
        self.directories.register(key, url)
        if self.failure:
            raise self.failure

    async def unload(self, key):
        self.directories.directory(key)
        self.directories.unregister(key)


class Lone:
    """A single model that can't be loaded, for the reason it is given."""

    key, concurrency = ModelKey("model"), 3

    def __init__(self, failure: str | None = None) -> None:
        self._failure = failure

    def failure(self):
        return self._failure


class Absent:
    """Target models of which none is in memory, nor in the store."""

    def names(self):
        return []

    def describe(self, key):
        raise ModelMissing(f"Model not in memory: {key}")

    async def load(self, key):
        self.describe(key)

    unload, refresh, pin, unpin = load, load, describe, describe


class Many(Absent):
    """Target models in memory, of which it is noted who was described."""

    def __init__(self):
        self.described = []

    def names(self):
        return {ModelKey(f"m{number}") for number in range(9)}

    def describe(self, key):
        self.described.append(key)
        return {"modelName": key}


async def test_of_many_models_only_those_of_the_page_are_described():
    many = Many()
    [answer] = await asked(Management(operated=many), ("GET", "/models?limit=2"))
    assert answer.status == 200
    assert [model["modelName"] for model in json.loads(answer.body)["models"]] == ["m0", "m1"]
    assert many.described == ["m0", "m1"]


async def asked(management, *requests, service=None, **limits):
    """The answers to requests, one by one, from a front alone."""
    config = ServerConfig(port=0, **limits)
    front = Front(service or FakeService(), config, Metrics("mme", "AllTraffic"), management)
    await front.start()
    try:
        return [await call(front, *request) for request in requests]
    finally:
        await front.close()


def told(response):
    return response.status, json.loads(response.body)


def refusal(status, kind, message):
    return status, {"code": status, "type": kind, "message": message}


async def test_a_model_is_loaded_listed_described_invoked_and_unloaded(tmp_path):
    url = put(tmp_path, "0a", MODEL.members)
    async with container(tmp_path) as (front, _engine):
        ping = await call(front, "GET", "/ping")
        assert (ping.status, ping.body) == (200, b"")
        assert told(await call(front, "GET", "/models")) == (200, {"models": []})
        answer = await call(front, "POST", "/models", loading("0a", url))
        assert told(answer) == (200, {"status": "Model 0a loaded"})
        named = {"modelName": "0a", "modelUrl": url}
        assert told(await call(front, "GET", "/models")) == (200, {"models": [named]})
        assert told(await call(front, "GET", "/models/0a")) == (200, named)

        headers = {
            "content_type": "text/csv",
            "accept": "text/csv",
            "x_amzn_sagemaker_custom_attributes": "trace=1",
            "x_amzn_sagemaker_target_model": "s3://what/the platform/was asked for",
        }
        answer = await call(front, "POST", "/models/0a/invoke", CSV, **headers)
        assert (answer.status, float(answer.body)) == (200, pytest.approx(MODEL.prediction))
        assert answer.headers["content-type"].startswith("text/csv")
        assert "x-amzn-invoked-production-variant" not in answer.headers
        answer = await call(front, "POST", "/models/0a/invoke", b"1,2", content_type="text/csv")
        status, fault = told(answer)
        assert (status, fault["code"], fault["type"]) == (400, 400, "BadRequestException")
        assert fault["message"].startswith("Unable to evaluate payload provided: Feature size")

        assert told(await call(front, "POST", "/models", loading("0a", url))) == refusal(
            409, "ConflictStatusException", "Model 0a is already registered."
        )
        answer = await call(front, "DELETE", "/models/0a")
        assert told(answer) == (200, {"status": "Model 0a unloaded"})
        gone = refusal(404, "ModelNotFoundException", "Model not found: 0a")
        for method, path in (
            ("DELETE", "/models/0a"), ("GET", "/models/0a"), ("POST", "/models/0a/invoke")
        ):  # fmt: skip
            assert told(await call(front, method, path)) == gone
        assert told(await call(front, "GET", "/models")) == (200, {"models": []})


async def test_a_model_that_can_not_be_loaded_is_not_registered_and_says_why(tmp_path):
    url = put(tmp_path, "0a", {"readme.txt": b"no model"})
    async with container(tmp_path) as (front, _engine):
        status, fault = told(await call(front, "POST", "/models", loading("0a", url)))
        assert (status, fault["type"]) == (500, "InternalServerException")
        assert "readme.txt" in fault["message"]
        assert told(await call(front, "GET", "/models/0a"))[0] == 404
        put(tmp_path, "0b", MODEL.members)
        url = str(tmp_path / "0b" / "model")
        assert (await call(front, "POST", "/models", loading("0a", url))).status == 200


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "The body must be"),
        (b"[1]", 400, "The body must be"),
        (b'{"model_name": "a"}', 400, "The body must be"),
        (b'{"x": ' + b"[" * 100_000, 400, "The body must be"),
        (b'{"model_name": "a", "url": 7}', 400, "The body must be"),
        (b'{"model_name": "", "url": "/tmp"}', 400, "model_name must be"),
        (b'{"model_name": "a/b", "url": "/tmp"}', 400, "model_name must be"),
        (b'{"model_name": "a", "url": ""}', 400, "url must be"),
        (b'{"model_name": "a", "url": "/tmp\\u0000"}', 400, "url must be"),
        (b'{"model_name": "a", "url": "models/a"}', 404, "Relative path is not allowed in url"),
        (b'{"model_name": "a", "url": "/tmp/../etc"}', 404, "Relative path is not allowed in url"),
        (b'{"model_name": "a", "url": "/no/such"}', 404, "Model not found in model store"),
        (b'{"model_name": "a", "url": "/etc/hostname"}', 404, "Model not found in model store"),
    ],
)
async def test_what_can_not_be_a_load_is_refused(body, status, says):
    [answer] = await asked(Management(hosted=Shelf()), ("POST", "/models", body))
    kind = {400: "BadRequestException", 404: "ModelNotFoundException"}[status]
    assert answer.status == status
    fault = json.loads(answer.body)
    assert (fault["code"], fault["type"]) == (status, kind)
    assert fault["message"].startswith(says)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (MemoryRefused("full"), 507, "InsufficientMemoryException"),
        (LoadFailed("corrupt"), 500, "InternalServerException"),
        (LoadFailed("no memory", 507), 507, "InternalServerException"),
        (PredictionFailed("type", 415), 415, "BadRequestException"),
        (PredictionFailed("odd", 200), 500, "InternalServerException"),
        (InvocationTimeout("late"), 504, "ServiceUnavailableException"),
        (WorkerLost("gone"), 503, "ServiceUnavailableException"),
        (Overloaded("queues"), 503, "ServiceUnavailableException"),
        (Draining("closing"), 503, "ServiceUnavailableException"),
    ],
)
async def test_each_failure_has_its_status(tmp_path, error, status, kind):
    def respond(_invocation):
        raise error

    shelf = Shelf()
    shelf.directories.register(ModelKey("0b"), str(tmp_path))
    shelf.failure = error
    load, invoke = await asked(
        Management(hosted=shelf),
        ("POST", "/models", loading("0a", str(tmp_path))),
        ("POST", "/models/0b/invoke", b"1"),
        service=FakeService(respond),
    )
    assert told(load) == told(invoke) == refusal(status, kind, str(error))
    assert ("retry-after" in invoke.headers) is (status == 503 and error.retryable)


async def test_an_unexpected_failure_tells_nothing_and_an_oversize_body_is_not_read(tmp_path):
    def respond(_invocation):
        raise RuntimeError("secret")

    shelf = Shelf()
    shelf.directories.register(ModelKey("a"), str(tmp_path))
    failed, large = await asked(
        Management(hosted=shelf),
        ("POST", "/models/a/invoke", b"1"),
        ("POST", "/models/a/invoke", b"1" * 11),
        service=FakeService(respond),
        body_limit_bytes=10,
    )
    assert failed.status == 500
    assert b"secret" not in failed.body
    assert told(large)[1]["type"] == "RequestEntityTooLargeException"
    assert large.headers["connection"] == "close"


async def test_pages_hold_every_model_once_and_the_last_has_no_token(tmp_path):
    shelf = Shelf()
    names = [f"m{number:03}" for number in range(130)]
    for name in names:
        shelf.directories.register(ModelKey(name), str(tmp_path))
    everything = Management(hosted=shelf)
    [page] = await asked(everything, ("GET", "/models"))
    listing = json.loads(page.body)
    assert len(listing["models"]) == 100
    seen, path = [], "/models?limit=65"
    while path:
        [page] = await asked(everything, ("GET", path))
        listing = json.loads(page.body)
        seen += [model["modelName"] for model in listing["models"]]
        token = listing.get("nextPageToken")
        path = token and f"/models?limit=65&next_page_token={quote(token)}"
    assert seen == names


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "limit=", "limit=-1", "limit=%D9%A3", "next_page_token=!"],
)
async def test_a_page_that_can_not_be_is_refused(query):
    [answer] = await asked(Management(hosted=Shelf()), ("GET", f"/models?{query}"))
    assert told(answer)[1]["type"] == "BadRequestException"


async def test_where_nothing_is_the_answer_has_the_dialects_shape():
    requests = ("GET", "/nothing"), ("PUT", "/models"), ("POST", "/invocations"), ("GE T", "/ping")
    nothing, method, ordinary, broken = await asked(Management(hosted=Shelf()), *requests)
    assert told(nothing)[1]["type"] == told(ordinary)[1]["type"] == "ResourceNotFoundException"
    assert told(method)[1]["type"] == "MethodNotAllowedException"
    assert method.headers["allow"] == "GET, POST"
    assert told(broken)[1]["type"] == "BadRequestException"


async def test_a_single_models_ping_tells_loading_from_broken_from_ready():
    loading = ["the model is being loaded"]
    pings = [
        await asked(
            Management(single=Lone(failure)), ("GET", "/ping"), service=FakeService(reasons=why)
        )
        for failure, why in ((None, loading), ("corrupt", ["corrupt"]), (None, []))
    ]
    assert [ping.status for [ping] in pings] == [503, 500, 200]
    assert json.loads(pings[1][0].body) == {"status": "corrupt"}
    assert pings[2][0].body == b""


async def test_a_single_model_answers_invocations_and_batch_transforms_question():
    parameters, answer = await asked(
        Management(single=Lone()),
        ("GET", "/execution-parameters"),
        ("POST", "/invocations", b"1,2"),
        body_limit_bytes=6 * 2**20,
    )
    assert told(parameters) == (
        200,
        {"MaxConcurrentTransforms": 3, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 6},
    )
    assert (answer.status, answer.body) == (200, b"1,2")


async def test_an_operator_loads_pins_lists_and_unloads_target_models(tmp_path):
    models = tmp_path / "models"
    drop(models, "acme/a b.tar.gz", MODEL.members)
    path = "/models/" + quote("acme/a b.tar.gz", safe="")
    settings = {"container": "off", "models": str(models)}
    async with container(tmp_path, **settings) as (front, engine):
        missing = "Model not in memory: acme/a b.tar.gz"
        absent = refusal(404, "ModelNotFoundException", missing)
        for method, action in (
            ("GET", ""),
            ("DELETE", ""),
            ("POST", "/pin"),
            ("POST", "/unpin"),
            ("POST", "/refresh"),
        ):
            assert told(await call(front, method, path + action)) == absent
        status, model = told(await call(front, "POST", path + "/load"))
        assert (status, model["modelName"], model["pinned"]) == (200, "acme/a b.tar.gz", False)
        assert model["modelUrl"] == f"file://{models}/acme/a b.tar.gz"
        assert told(await call(front, "POST", path + "/pin"))[1]["pinned"] is True
        [listed] = told(await call(front, "GET", "/models"))[1]["models"]
        assert (listed["modelName"], listed["pinned"]) == (model["modelName"], True)
        assert told(await call(front, "GET", path))[1]["framework"] == "xgboost"
        assert told(await call(front, "POST", path + "/unpin"))[1]["pinned"] is False
        assert (await call(front, "DELETE", path)).status == 200
        assert engine.state()["memory"]["resident_bytes"] == 0
        assert told(await call(front, "DELETE", path)) == absent
        status, fault = told(await call(front, "POST", "/models/none.tar.gz/load"))
        assert (status, fault["type"]) == (404, "ModelNotFoundException")
        hostile = quote("../x", safe="")
        status, fault = told(await call(front, "POST", f"/models/{hostile}/load"))
        assert (status, fault["type"]) == (400, "BadRequestException")


segments = st.text(max_size=20).map(lambda text: quote(text.encode("utf-8", "replace"), safe=""))
paths = st.one_of(
    st.just("/models"),
    segments.map("/models/{}".format),
    st.tuples(segments, st.sampled_from(["invoke", "load", "refresh", "pin", "unpin", "x"])).map(
        lambda pair: "/models/{}/{}".format(*pair)
    ),
    st.tuples(segments, segments).map(
        lambda pair: "/models?limit={}&next_page_token={}".format(*pair)
    ),
)
requests = st.tuples(
    st.sampled_from(["GET", "POST", "DELETE", "PUT"]),
    paths,
    st.one_of(
        st.binary(max_size=60),
        st.fixed_dictionaries({"model_name": st.text() | st.integers(), "url": st.text()}).map(
            lambda members: json.dumps(members).encode()
        ),
    ),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(requests, min_size=1, max_size=15))
def test_garbage_gets_a_4xx_in_the_dialects_shape(asking):
    async def attack() -> None:
        for answer in await asked(Management(hosted=Shelf()), *asking):
            members = json.loads(answer.body)
            if answer.status == 200:
                assert members == {"models": []}
            else:
                assert 400 <= answer.status < 500
                assert members["code"] == answer.status
                assert set(members) == {"code", "type", "message"}

    asyncio.run(attack())


@settings(max_examples=25, deadline=None)
@given(st.lists(requests, min_size=1, max_size=15))
def test_garbage_on_the_operators_routes_gets_a_4xx_and_elsewhere_the_runtimes_shape(asking):
    async def attack() -> None:
        for answer in await asked(Management(operated=Absent()), *asking):
            members = json.loads(answer.body)
            if answer.status == 200:
                assert members == {"models": []}
            else:
                assert 400 <= answer.status < 500
                assert set(members) in ({"code", "type", "message"}, {"Message"})

    asyncio.run(attack())

"""What a multi-model container's models use, and how a console shows them: an engine, its front."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import quote

import pytest

from mme import Engine, build_config
from mme.errors import MmeError, SiblingFailed
from mme.front.server import Front
from mme.usage.accounts import NOBODY
from mme.usage.statement import read_window
from tests.engines import drop, invocation
from tests.eventually import eventually
from tests.many_models import ManyModels, put
from tests.models import booster
from tests.rooms.front_double import connected


@asynccontextmanager
async def endpoint(root, container, *others, **settings):
    """An engine over a multi-model container with models a to c, and other containers."""
    for name in "abc":
        put(root, f"acme/{name}.tar.gz", f"weights of {name}".encode())
    async with AsyncExitStack() as there:
        await there.enter_async_context(container.served())
        many = {
            "hostname": "many",
            "url": f"http://127.0.0.1:{container.port}",
            "target_models": str(root / "models"),
        }
        values = {"containers": [many, *others], "cache_dir": str(root / "cache"), **settings}
        async with Engine(build_config(values)) as engine:
            yield engine, there.aclose


async def billed(engine):
    told = await engine.management.usage.read(read_window({}, time.time()))
    return {usage.model: usage for usage in told.models}


async def listed(engine, query=""):
    front = Front(
        engine, build_config({"models": "m", "port": 0}).server, engine.metrics, engine.management
    )
    await front.start()
    try:
        async with connected(front) as wire:
            wire.get(f"/console/models{query}")
            return json.loads((await wire.response()).body)
    finally:
        await front.close()


async def test_a_containers_models_are_billed_for_requests_loads_and_its_seconds(tmp_path):
    async with endpoint(tmp_path, ManyModels()) as (engine, _):
        for body in (b"x", b"yy"):
            await engine.invoke(invocation("acme/a.tar.gz", body))
        await engine.invoke(invocation("acme/b.tar.gz", b"x"))
        used = await billed(engine)
        assert used.keys() == {"acme/a.tar.gz", "acme/b.tar.gz"}
        a = used["acme/a.tar.gz"]
        assert (a.requests, a.loads, a.bytes_in) == (2, 1, 3)
        assert a.bytes_out == len(b"weights of a|x" + b"weights of a|yy")
        assert min(a.compute_seconds, a.load_seconds) > 0
        assert a.memory_byte_seconds == 0  # nobody here knows
        text = engine.metrics_text()[0].decode()
        assert 'mme_model_requests_total{model="acme/a.tar.gz"} 2.0' in text
        assert "mme_model_memory_bytes{" not in text


async def test_failures_are_their_models_and_what_is_no_models_name_is_nobodys(tmp_path):
    container = ManyModels(on_invoke=lambda target: 418 if "/a." in target else None)
    async with endpoint(tmp_path, container) as (engine, _):
        for name in ("acme/a.tar.gz", "acme/none.tar.gz", "invented/1"):
            with pytest.raises(MmeError):
                await engine.invoke(invocation(name, b"abc"))
        container.on_load = lambda _: 500
        with pytest.raises(SiblingFailed):
            await engine.invoke(invocation("acme/b.tar.gz", b"abc"))
        used = await billed(engine)
        assert used.keys() == {"acme/a.tar.gz", "acme/b.tar.gz", NOBODY}
        a, b, nobody = used["acme/a.tar.gz"], used["acme/b.tar.gz"], used[NOBODY]
        assert (a.requests, a.model_errors, a.bytes_in, a.bytes_out) == (1, 1, 3, 0)
        assert a.compute_seconds > 0  # it answered, if badly
        assert (b.requests, b.model_errors, b.loads) == (1, 1, 0)
        assert (nobody.requests, nobody.client_errors) == (2, 2)


async def test_where_a_container_is_not_there_invented_names_fill_nothing(tmp_path):
    async with endpoint(tmp_path, ManyModels()) as (engine, leave):
        await engine.invoke(invocation("acme/a.tar.gz", b"x"))
        await billed(engine)
        await leave()
        for name in ("acme/a.tar.gz", "invented/1", "invented/2"):
            with pytest.raises(MmeError):
                await engine.invoke(invocation(name, b"x"))
        used = await billed(engine)
        assert used.keys() == {"acme/a.tar.gz", NOBODY}
        assert used["acme/a.tar.gz"].model_errors == 1


async def test_a_client_that_goes_is_counted_against_it(tmp_path):
    container = ManyModels(invoke_gate=asyncio.Event())
    async with endpoint(tmp_path, container) as (engine, _):
        gone = asyncio.create_task(engine.invoke(invocation("acme/a.tar.gz", b"x")))
        await container.invoking.wait()
        gone.cancel()
        await asyncio.wait([gone])
        container.invoke_gate.set()
        assert (await billed(engine))["acme/a.tar.gz"].client_errors == 1


async def test_the_console_finds_what_a_container_holds_and_says_which_one(tmp_path):
    container = ManyModels(on_load=lambda target: 500 if "/c." in target else None)
    drop(tmp_path / "own", "acme/own.tar.gz", booster(1).members)
    own = {"hostname": "own", "models": str(tmp_path / "own")}
    settings = {"mode": "Direct", "workers": 1, "threads": 1}
    async with endpoint(tmp_path, container, own, **settings) as (engine, _):
        await eventually(lambda: not engine.readiness())
        for name in ("acme/a.tar.gz", "acme/a.tar.gz", "acme/b.tar.gz"):
            await engine.invoke(invocation(name, b"x", target_container="many"))
        await engine.invoke(invocation("acme/own.tar.gz", target_container="own"))
        with pytest.raises(SiblingFailed):
            await engine.invoke(invocation("acme/c.tar.gz", b"x", target_container="many"))
        assert (await engine.management.watched.glance())["containers"][0]["models"] >= 2
        told = await listed(engine, "?search=acme&sort=hits")
        lines = {line["model"]: line for line in told["models"]}
        assert (told["total"], told["in_memory"]) == (4, 3)
        assert next(iter(lines)) == "acme/a.tar.gz"
        a, c = lines["acme/a.tar.gz"], lines["acme/c.tar.gz"]
        assert (a["container"], a["state"], a["hits"]) == ("many", "loaded", 2)
        assert a["rate"] > 0
        assert "bytes" not in a
        assert (c["container"], c["state"]) == ("many", "failed")
        assert "container" not in lines["acme/own.tar.gz"]
        loaded = await listed(engine, "?resident=1&sort=model")
        assert [line["model"] for line in loaded["models"]] == sorted(
            lines.keys() - {"acme/c.tar.gz"}
        )
        page = await listed(engine, f"/{quote('acme/a.tar.gz', safe='')}")
        assert [each["container"] for each in page["elsewhere"]] == ["many"]

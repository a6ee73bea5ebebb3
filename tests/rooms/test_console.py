"""The console's routes over real sockets: who looks, what it costs, and what a page may load."""

from __future__ import annotations

import asyncio
import json
import re
import time
from contextlib import AsyncExitStack

import pytest

from mme.front.console_api import _VIEWERS_LIMIT
from mme.front.console_query import Search
from mme.front.credentials import KeyFile
from mme.metrics import Metrics
from tests.eventually import eventually
from tests.rooms.front_double import connected
from tests.watched import entries, view, watched

MANY = 10_000
KEY = """
[[keys]]
name = "operators"
api_key = "the-api-key-of-operators"
actions = ["admin"]
models = ["*"]
"""


class Counted:
    """Something to look at, which counts how often it was looked at."""

    def __init__(self) -> None:
        self.glances = 0

    async def glance(self):
        self.glances += 1
        return {"at": float(self.glances), "rates": None}

    def events(self):
        return []

    async def find(self, search):
        return {"models": [], "total": 0}

    def elsewhere(self, key):
        return []


async def event(wire):
    """The next one: its name and data."""
    lines = (await wire.reader.readuntil(b"\n\n")).decode().split("\n")
    return lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))


async def look(stack, front):
    """A viewer, from whom the head and the greeting were taken."""
    wire = await stack.enter_async_context(connected(front))
    wire.get("/console/live")
    head = await wire.reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        return None
    assert b"text/event-stream" in head
    assert b"Content-Length" not in head
    assert (await event(wire))[0] == "hello"
    return wire


async def test_all_who_look_share_one_glance_a_second_and_nobody_costs_nothing():
    counted = Counted()
    async with watched(counted, Metrics("e", "v")) as front:
        async with AsyncExitStack() as stack:
            wires = [await look(stack, front) for _ in range(4)]
            for _ in range(2):
                seen = [(await event(wire))[1]["at"] for wire in wires]
            assert counted.glances <= 3
            assert max(seen) - min(seen) <= 1
        await eventually(lambda: front_viewers(front) == 0)
        former = counted.glances
        async with AsyncExitStack() as stack:
            wire = await look(stack, front)
            await event(wire)
        assert counted.glances <= former + 1


def front_viewers(front):
    """How many look, as the console counts them."""
    return front._tables[0].find("GET", "/console/live").route.answer.__self__._viewers


async def test_viewers_are_bounded_and_who_leaves_makes_room():
    async with watched(Counted(), Metrics("e", "v")) as front, AsyncExitStack() as stack:
        async with AsyncExitStack() as first:
            await look(first, front)
            for _ in range(_VIEWERS_LIMIT - 1):
                assert await look(stack, front)
            assert await look(stack, front) is None
        await eventually(lambda: front_viewers(front) == _VIEWERS_LIMIT - 1)
        assert await look(stack, front)


async def test_who_looks_does_not_hold_the_server_up_when_it_stops():
    async with watched(Counted(), Metrics("e", "v")) as front, AsyncExitStack() as stack:
        wire = await look(stack, front)
        await event(wire)
        async with asyncio.timeout(5):  # the time to drain is 20
            await front.drain()
            await front.close()
            await wire.closed()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("the-api-key-of-operators", "another-key-of-operators"),
        ('actions = ["admin"]', 'actions = ["load"]'),
        ('models = ["*"]', 'models = ["acme/*"]'),
    ],
)
async def test_who_may_not_look_any_more_sees_no_more(tmp_path, before, after):
    path, now = tmp_path / "keys.toml", [0.0]
    path.write_text(KEY)
    keys = KeyFile(str(path), lambda: now[0])
    asked = "GET /console/live HTTP/1.1\r\nHost: x\r\nX-API-Key: the-api-key-of-operators\r\n\r\n"
    async with watched(Counted(), Metrics("e", "v"), keys) as front, connected(front) as wire:
        wire.send(asked.encode())
        assert b" 200 " in await wire.reader.readuntil(b"\r\n\r\n")
        for name in ("hello", "glance", "glance"):
            assert (await event(wire))[0] == name
        (tmp_path / "new").write_text(KEY.replace(before, after))
        (tmp_path / "new").replace(path)
        for _ in range(2):  # it is taken once two looks have found the same
            now[0] += 2.0
            keys.keys()
        async with asyncio.timeout(10):
            assert (await wire.closed()).count(b"event: ") <= 1


async def test_ten_thousand_models_are_summed_up_beside_the_event_loop():
    shown = view(entries(MANY), Metrics("e", "v"))
    await shown.glance()
    began = time.thread_time()  # of the loop's own thread: another's work is not counted
    glance = await shown.glance()
    assert time.thread_time() - began < 0.05
    assert glance["memory"]["models"] == MANY
    groups = glance["others"]
    assert len(glance["blocks"]) <= 300
    assert len(glance["blocks"]) + sum(group["models"] for group in groups) == MANY
    told = sum(each["bytes"] for each in (*glance["blocks"], *groups))
    assert told == sum(one.loaded.resident_bytes for one in entries(MANY))
    assert len(json.dumps(glance)) < 64_000


async def test_searches_are_sorted_and_come_in_pages_of_any_place():
    shown = view(entries(MANY), Metrics("e", "v"))
    hits = [one["hits"] for one in (await shown.find(Search(sort="hits")))["models"]]
    assert hits == sorted(hits, reverse=True)
    page = await shown.find(Search(sort="model", offset=9_990, limit=100))
    assert page["total"] == MANY
    assert [one["model"] for one in page["models"]] == [
        f"tenant-{number:05}/model.tar.gz" for number in range(9_990, MANY)
    ]
    assert (await shown.find(Search(terms=("tenant", "0042"))))["total"] == 11


async def test_the_page_loads_its_own_files_alone_and_holds_no_script_or_style():
    async with watched(Counted(), Metrics("e", "v")) as front, connected(front) as wire:
        wire.get("/console")
        page = await wire.response()
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        text = page.body.decode()
        assert not re.search(r"<script(?![^>]* src=)|<style|style=|\son\w+=|https?://", text)
        for path in re.findall(r'(?:src|href)="(console/[^"]+)"', text):
            wire.get(f"/{path}")
            file = await wire.response()
            assert (file.status, len(file.body) > 0) == (200, True), path
        known = f"If-None-Match: {page.headers['etag']}"
        wire.send(f"GET /console HTTP/1.1\r\nHost: x\r\n{known}\r\n\r\n".encode())
        assert (await wire.response()).status == 304
        wire.get("/console/../config.py")
        assert (await wire.response()).status == 404

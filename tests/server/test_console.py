"""The console as a person meets it: a real browser, a real server, real traffic."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from urllib.parse import quote

import pytest
from selenium.webdriver.common.keys import Keys

from mme.app.view import View
from mme.metrics import Metrics
from tests.browsers import open_browser
from tests.engines import drop, invocation
from tests.many_models import running
from tests.models import CSV, booster
from tests.servers import serving
from tests.watched import ABOUT, entries, view, view_of_others, watched

HOSTILE = "tenant/<img src=x onerror=document.title='owned'> ü.tar.gz"
NAMES = [*(f"tenant-{number}/model.tar.gz" for number in range(14)), HOSTILE]
PAGES = ("", "#/models", "#/events", f"#/models/{quote(NAMES[0], safe='')}")
KEYS = """
[[keys]]
name = "operators"
api_key = "the-api-key-of-operators"
actions = ["admin", "load"]

[[keys]]
name = "acme"
api_key = "the-api-key-of-acme-inc"
"""
MANY = 10_000
LONGEST_TASK_MS = 400  # on a machine that the tests share; alone it is a tenth of that
WATCH_LONG_TASKS = """
globalThis.longTasks = [];
new PerformanceObserver((list) => longTasks.push(...list.getEntries().map((one) => one.duration)))
    .observe({ type: "longtask" });
"""
pytestmark = pytest.mark.timeout(180)  # a browser, on a machine that the tests share


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def browser(tab):
    """A tab that looks at nothing yet, nor any more once the server has gone."""
    tab.complaints()
    yield tab
    tab.leave()


def ask(url, name, body=CSV):
    target = name.encode().decode("latin-1")  # bytes, as header values are
    headers = {"X-Amzn-SageMaker-Target-Model": target, "Content-Type": "text/csv"}
    request = urllib.request.Request(f"{url}/invocations", body, headers)
    with urllib.request.urlopen(request, timeout=10) as reply:
        return reply.read().decode()


def status(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.fixture
def models(tmp_path):
    """Fifteen, of 0.2 MB in memory each."""
    members = booster(1, trees=200, depth=6, dart=True).members
    for name in NAMES:
        drop(tmp_path / "models", name, members)
    return tmp_path / "models"


@pytest.fixture
def url(tmp_path, models):
    """A server with room for some of them, which is asked for two of them all the time."""
    with serving(tmp_path, models, "--memory", "1500000") as served:
        ending = threading.Event()

        def visit():
            while not ending.wait(0.02):
                with suppress(OSError):  # now and then there is no room for one of the two
                    ask(served.url, NAMES[0])
                    ask(served.url, HOSTILE)

        visitor = threading.Thread(target=visit)
        visitor.start()
        yield served.url
        ending.set()
        visitor.join()


def figure(browser, name):
    return browser.run(
        "return [...document.querySelectorAll('.figures > div')]"
        ".find((one) => one.children[0].textContent === arguments[0])?.children[1].textContent",
        name,
    )


def test_the_console_shows_traffic_and_evictions_as_they_come_and_acts(browser, url):
    browser.open(f"{url}/console")
    it_shows_the_traffic(browser)
    it_shows_an_eviction_within_two_seconds(browser, url)
    a_hostile_name_is_but_a_text(browser)
    the_terminal_shows_the_same(url)
    models_are_found_and_opened(browser)
    actions_work(browser)
    a_payload_is_sent_and_answered(browser)
    errors_are_shown_with_their_reason(browser, url)
    nothing_keeps_people_out_in_light_or_dark(browser, url)
    it_is_as_wide_as_a_phone(browser, url)
    assert browser.complaints() == []


def it_shows_the_traffic(browser):
    browser.until(lambda: "/s" in (figure(browser, "Requests") or ""), "no traffic is shown")
    browser.until(lambda: "ms" in figure(browser, "Latency p50"), "no latency is shown")
    assert figure(browser, "Models in memory") == "2"
    browser.until(lambda: browser.text("#status") == "ready", "it is not called ready")
    assert browser.run("return document.querySelectorAll('.plot canvas').length") == 4
    assert "2 models in memory" in browser.find(".blocks canvas")[0].get_attribute("aria-label")


def it_shows_an_eviction_within_two_seconds(browser, url):
    for name in NAMES[1:-1]:
        ask(url, name)
    began = time.monotonic()
    browser.until(lambda: "least recently used" in browser.text(), "no eviction is shown")
    assert time.monotonic() - began < 2


def a_hostile_name_is_but_a_text(browser):
    browser.run("document.querySelector('details').open = true")
    browser.until(lambda: HOSTILE in browser.text("details"), "it is not listed")
    assert browser.find("main img") == []
    assert browser.driver.title == "Overview · mme"


def the_terminal_shows_the_same(url):
    for name in NAMES[1:-1]:  # it shows eight events: until an eviction is among the newest
        with urllib.request.urlopen(f"{url}/state", timeout=10) as reply:
            newest = json.load(reply)["events"][-4:]
        if any(event["kind"] == "evicted" for event in newest):
            break
        ask(url, name)
    done = subprocess.run(
        [sys.executable, "-m", "mme.cli.main", "top", "--once", "--endpoint-url", url],
        capture_output=True, text=True, timeout=30, check=True,
        env={**os.environ, "COLUMNS": "160"},
    )  # fmt: skip
    for said in (
        "ready",
        "requests ",
        "hottest model",
        HOSTILE,
        "least recently used",
        newest[-1]["reason"],
        "of 1.4 MiB",
    ):
        assert said in done.stdout


def models_are_found_and_opened(browser):
    browser.run("location.hash = '#/models'")
    browser.until(lambda: "15 found" in browser.text(), "not all models are known")
    browser.find("#search")[0].send_keys("TENANT-0/")
    browser.until(lambda: "1 found" in browser.text(), "the search finds nothing")
    browser.until(lambda: browser.text(".list td a") == NAMES[0], "it is not listed")
    browser.find(".list td a")[0].click()
    browser.until(lambda: browser.text("h1") == NAMES[0], "its page does not open")
    browser.until(lambda: "In memory since" in browser.text(".why"), "it is not said why")
    browser.until(lambda: "ms" in figure(browser, "Latency p99"), "no latency is shown")
    assert figure(browser, "Kind") == "xgboost"


def actions_work(browser):
    for name, said in (
        ("Pin", "pinned: it is not evicted"),
        ("Unpin", "In memory since"),
        ("Refresh", "In memory since"),
    ):
        browser.press(name)
        browser.until(lambda said=said: said in browser.text(".why"), f"{name} did nothing")
    browser.run(f"location.hash = '#/models/{quote(NAMES[3], safe='')}'")
    browser.until(lambda: " memory" in browser.text(".why"), "it is not said where it is")
    if "Not in memory" in browser.text(".why"):
        browser.press("Load now")
    browser.press("Unload")
    browser.until(lambda: "unloaded at" in browser.text(".why"), "it was not unloaded")
    browser.press("Load now")
    browser.until(lambda: "In memory since" in browser.text(".why"), "it was not loaded")


def a_payload_is_sent_and_answered(browser):
    browser.run(f"location.hash = '#/models/{quote(HOSTILE, safe='')}'")
    browser.until(lambda: browser.text("h1") == HOSTILE, "its page does not open")
    browser.find("#payload")[0].send_keys(CSV.decode())
    browser.press("Send")
    browser.until(lambda: "200 in " in browser.text(".try .said"), "there was no answer")
    predicted = booster(1, trees=200, depth=6, dart=True).prediction
    assert json.loads(browser.text("pre")) == [pytest.approx(predicted, rel=1e-5)]


def errors_are_shown_with_their_reason(browser, url):
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(url, HOSTILE, b"no,row,at,all")
    refused.value.close()
    browser.until(lambda: "PredictionFailed" in browser.text(), "the error is not shown")
    assert refused.value.headers["x-amzn-RequestId"] in browser.text()


def open_page(browser, url, page):
    browser.open(f"{url}/console{page}")
    browser.until(lambda: browser.find("main td a, main .kind"), f"{page} is empty")


def nothing_keeps_people_out_in_light_or_dark(browser, url):
    for scheme in ("light", "dark"):
        browser.prefer(scheme)
        for page in PAGES:
            open_page(browser, url, page)
            browser.run("document.querySelectorAll('details').forEach((one) => one.open = true)")
            assert browser.barriers() == [], (scheme, page)


def it_is_as_wide_as_a_phone(browser, url):
    with browser.phone():
        for page in PAGES:
            open_page(browser, url, page)
            assert browser.run("return document.documentElement.scrollWidth") <= 390, page


def test_the_console_asks_for_a_key_and_takes_only_one_that_may(browser, tmp_path, models):
    (tmp_path / "keys.toml").write_text(KEYS)
    with serving(tmp_path, models, "--access-keys", str(tmp_path / "keys.toml")) as served:
        browser.open(f"{served.url}/console")
        for key, said in (
            ("wrong", "security token"),
            ("the-api-key-of-acme-inc", "not authorized"),
        ):
            give_key(browser, key)
            browser.until(lambda said=said: said in browser.text("#key-refused"), f"{key} is taken")
        give_key(browser, "the-api-key-of-operators")
        browser.until(lambda: browser.text("#status") == "ready", "the right key is not taken")
        browser.run("location.hash = '#/models/tenant-1%2Fmodel.tar.gz'")
        browser.press("Load now")
        browser.until(lambda: "In memory since" in browser.text(".why"), "it was not loaded")
        assert "Try it" not in browser.text()  # which this key may not
        assert "the-api-key" not in served.log_path.read_text()
        assert browser.complaints() == []


def give_key(browser, key):
    browser.until(lambda: browser.find("dialog[open]"), "no key is asked for")
    browser.find("#key")[0].send_keys(key)
    browser.press("Open")


async def test_ten_thousand_models_stay_quick_to_the_hand(browser):
    metrics = Metrics("e", "v")
    async with watched(view(entries(MANY), metrics), metrics) as front:
        await asyncio.to_thread(scroll_through_many, browser, f"http://127.0.0.1:{front.port}")


async def test_where_other_containers_alone_answer_their_health_is_what_is_shown(browser):
    metrics, problem = Metrics("e", "v"), "its last ping was answered with 503"
    async with watched(view_of_others(metrics, problem), metrics) as front:
        url = f"http://127.0.0.1:{front.port}"
        await asyncio.to_thread(their_health_is_shown, browser, url, problem)


def their_health_is_shown(browser, url, problem):
    browser.open(f"{url}/console")
    browser.until(lambda: problem in browser.text(), "the container's health is not shown")
    assert problem in browser.text("#status")
    assert "Workers" not in browser.text()
    assert "free" not in browser.text()
    browser.run("location.hash = '#/models/theirs'")
    browser.until(lambda: "another container's" in browser.text(".why"), "it is called missing")
    actions = browser.find("[aria-label='Actions'] button")
    assert not [one for one in actions if one.is_displayed()]
    assert browser.complaints() == []


async def test_where_nothing_is_in_memory_yet_it_is_said_so_and_what_to_do(browser):
    metrics = Metrics("e", "v")
    async with watched(view([], metrics), metrics) as front:
        url = f"http://127.0.0.1:{front.port}"
        await asyncio.to_thread(nothing_is_shown_as_such, browser, url)


def nothing_is_shown_as_such(browser, url):
    for page, said in (
        ("", "No model is in memory yet"),
        ("#/models", "No model is known yet"),
        ("#/events", "Nothing has come into memory"),
    ):
        browser.open(f"{url}/console{page}")
        browser.until(lambda said=said: said in browser.text(), f"{page} says nothing")
        assert "[object" not in browser.text()
        assert browser.barriers() == []
    browser.run("location.hash = '#/models'")
    browser.until(lambda: browser.find("#search"), "there is no search")
    browser.find("#search")[0].send_keys("a whole name")
    browser.until(lambda: "Open a whole name" in browser.text(), "it can't be opened")
    assert browser.complaints() == []


async def test_what_another_container_holds_is_found_and_named_after_it(browser, tmp_path):
    metrics = Metrics("e", "v")
    async with running(tmp_path) as (_, sibling):
        for name in "aab":
            await sibling.invoke(invocation(f"{name}.tar.gz", b"x"))
        shown = View(metrics, (sibling,), None, list, ABOUT)
        async with watched(shown, metrics) as front:
            url = f"http://127.0.0.1:{front.port}"
            await asyncio.to_thread(what_it_holds_is_shown, browser, url)


def what_it_holds_is_shown(browser, url):
    browser.open(f"{url}/console")
    browser.until(lambda: figure(browser, "Models in memory") == "2", "they are not counted")
    browser.run("location.hash = '#/models'")
    browser.until(lambda: "2 found; 2 in memory" in browser.text(), "they are not found")
    browser.until(lambda: "loaded in many" in browser.text(".list"), "it is not said where")
    browser.find(".list td a")[0].click()
    browser.until(lambda: "loaded in many" in browser.text(".why"), "its page does not say where")
    assert "many" in browser.text("[aria-labelledby='card-in-other-containers']")
    assert browser.barriers() == []
    assert browser.complaints() == []


def blocks_are_as_large_as_their_models(browser):
    sizes = [900, 300, 300, 200, 5, 5, 1]
    boxes = browser.driver.execute_async_script(
        "const [sizes, done] = arguments; import('/console/picture.js').then(({ layOut }) =>"
        " done(layOut(sizes.map((bytes) => ({ bytes })), 400, 200)))",
        sizes,
    )
    for box in boxes:
        area = box["width"] * box["height"]
        assert area == pytest.approx(box["item"]["bytes"] / sum(sizes) * 400 * 200)
        assert 0 <= box["x"] <= box["x"] + box["width"] <= 400.001
        assert 0 <= box["y"] <= box["y"] + box["height"] <= 200.001
    assert [box["item"]["bytes"] for box in boxes] == sizes


def the_keyboard_can_skip_what_comes_before(browser):
    focused = "return document.activeElement.innerText || document.activeElement.id"
    browser.find("body")[0].send_keys(Keys.TAB)
    assert browser.run(focused) == "Skip to content"
    browser.find(".skip")[0].send_keys(Keys.ENTER)
    assert browser.run("return document.activeElement.id") == "main"


def scroll_through_many(browser, url):
    browser.open(f"{url}/console")
    browser.until(lambda: figure(browser, "Models in memory") == "10,000", "they are not counted")
    blocks_are_as_large_as_their_models(browser)
    the_keyboard_can_skip_what_comes_before(browser)
    browser.run(WATCH_LONG_TASKS)
    browser.run("location.hash = '#/models'")
    browser.until(lambda: "10,000 found" in browser.text(), "they are not found")
    browser.find("#sort")[0].send_keys("by name")
    browser.until(lambda: "tenant-00000/" in browser.text(".list"), "they are not sorted")
    for share in (0.3, 0.7, 1.0):
        browser.run(
            "const list = document.querySelector('.scroller');"
            "list.scrollTop = arguments[0] * list.scrollHeight",
            share,
        )
        shown = f"tenant-{min(MANY - 1, int(MANY * share)):05}/model.tar.gz"
        browser.until(lambda shown=shown: shown in browser.text(".list"), f"{shown} is not shown")
        assert browser.run("return document.querySelectorAll('.list tr').length") < 100
    assert max(browser.run("return globalThis.longTasks"), default=0) < LONGEST_TASK_MS
    assert browser.complaints() == []


def test_the_console_is_at_the_operators_address_where_they_have_one(tmp_path, models):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(tmp_path, models, "--admin-port", str(port)) as served:
        assert status(f"http://127.0.0.1:{port}/console") == 200
        assert status(f"{served.url}/console") == 404
        assert status(f"{served.url}/console/app.js") == 404
        assert status(f"{served.url}/console/live") == 404


def test_pages_of_other_sites_can_not_use_the_browser_of_who_visits_them(browser, tmp_path, models):
    (tmp_path / "other").mkdir()
    with serving(tmp_path, models) as served, serving(tmp_path / "other", models) as other:
        browser.open(f"{other.url}/livez")
        body = json.dumps({"models": [NAMES[0]]})
        sent = browser.driver.execute_async_script(
            "const [url, body, done] = arguments;"
            "fetch(url, { method: 'POST', mode: 'no-cors', body }).then((told) => done(told.type))",
            f"{served.url}/prewarm",
            body,
        )
        assert sent == "opaque"
        [told] = served.logged(route="prewarm_models")
        assert (told["status"], told["outcome"]) == (403, "AccessDenied")

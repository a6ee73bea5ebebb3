"""A tenant floods a real server: it goes on, slower, and nobody else loses an answer."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from mme.front.refusals import AT_ONCE, PER_SECOND
from tests.engines import drop
from tests.eventually import wait_for
from tests.models import CSV, booster
from tests.servers import serving

OTHERS = [f"tenant-{number}.tar.gz" for number in range(20)]
FLOOD = "flood.tar.gz"


def ask(connection, model):
    kinds = {"Content-Type": "text/csv", "Accept": "text/csv"}
    headers = {"X-Amzn-SageMaker-Target-Model": model, **kinds}
    connection.request("POST", "/endpoints/mme/invocations", CSV, headers)
    reply = connection.getresponse()
    return reply.status, float(reply.read())


def metrics(url):
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as reply:
        return reply.read().decode().splitlines()


@pytest.fixture
def served(tmp_path):
    """A server that is always too busy for a flood."""
    trained = booster(1)
    for name in (FLOOD, *OTHERS):
        drop(tmp_path / "models", name, trained.members)
    with serving(tmp_path, tmp_path / "models", "--pace-above", "0") as served:
        yield served


@pytest.mark.timeout(120)
def test_a_flood_is_paced_and_told_of_and_everybody_is_answered(served):
    address, expected = urlsplit(served.url).netloc, booster(1).prediction
    answers: dict[str, Counter] = {"flood": Counter(), "others": Counter()}
    floods, asks = threading.Event(), threading.Event()

    def keep_asking(who, goes_on, models):
        connection = HTTPConnection(address, timeout=20)
        while goes_on.is_set():
            for model in models:
                status, number = ask(connection, model)
                answers[who][status, number == pytest.approx(expected, rel=1e-6)] += 1
        connection.close()

    with ThreadPoolExecutor(13) as threads:
        floods.set()
        asks.set()
        running = [threads.submit(keep_asking, "flood", floods, [FLOOD]) for _ in range(12)]
        running.append(threads.submit(keep_asking, "others", asks, OTHERS))
        try:
            wait_for(lambda: served.state()["paced_tenant"] == FLOOD)
            assert "mme_tenant_paced 1.0" in metrics(served.url)
            paced = answers["flood"].total()
            wait_for(lambda: answers["flood"].total() > paced + 50)  # it goes on
            floods.clear()
            wait_for(lambda: served.state()["paced_tenant"] is None)
            assert served.logged(event="tenant_not_paced")
        finally:
            floods.clear()
            asks.clear()
        for each in running:
            each.result()
    assert {who: set(kinds) for who, kinds in answers.items()} == {
        "flood": {(200, True)},
        "others": {(200, True)},
    }
    assert "mme_tenant_paced 0.0" in metrics(served.url)
    assert served.logged(event="tenant_paced", tenant=FLOOD)


SLEEPS = b"""
import time
def model_fn(directory): return None
def transform_fn(model, data, kind, accept):
    time.sleep(float(data))
    return data
"""


def tell_all(port, bodies):
    """Asks over a connection each, all at once; statuses, heads and moments as answers come."""
    with contextlib.ExitStack() as opened, selectors.DefaultSelector() as selector:
        for body in bodies:
            one = opened.enter_context(socket.create_connection(("127.0.0.1", port)))
            selector.register(one, selectors.EVENT_READ)
            one.sendall(
                b"POST /endpoints/mme/invocations HTTP/1.1\r\nHost: h\r\n"
                b"Content-Type: text/csv\r\nX-Amzn-SageMaker-Target-Model: sleeps.tar.gz\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
        while selector.get_map():
            for key, _ in selector.select():
                head = key.fileobj.recv(65536)
                selector.unregister(key.fileobj)
                yield int(head.split()[1]), head.lower(), time.monotonic()


@pytest.mark.timeout(60)
def test_refusals_beyond_a_few_are_told_one_after_the_other(tmp_path):
    drop(tmp_path / "models", "sleeps.tar.gz", {"code/inference.py": SLEEPS})
    with serving(tmp_path, tmp_path / "models", "--queue-per-model", "1") as served:
        port = urlsplit(served.url).port
        assert [status for status, _, _ in tell_all(port, [b"0"])] == [200]
        began = time.monotonic()
        answers = list(tell_all(port, [b"2"] * (AT_ONCE + 800)))
    refused = [(head, moment) for status, head, moment in answers if status == 503]
    assert {status for status, _, _ in answers} == {200, 503}
    assert len(refused) > AT_ONCE + 700
    assert all(b"\r\nretry-after:" in head for head, _ in refused)
    last = max(moment for _, moment in refused)
    assert last - began >= (len(refused) - AT_ONCE - 2) / PER_SECOND

"""A tenant floods a real server: it goes on, slower, and nobody loses an answer."""

from __future__ import annotations

import threading
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

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

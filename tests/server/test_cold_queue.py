"""What waits for loads is bounded, too: refused in time, told when to come again, others served."""

from __future__ import annotations

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chaos.test_server import address, assert_ledger_is_exact, is_model, post
from tests.engines import drop
from tests.eventually import wait_for
from tests.models import CSV, booster
from tests.servers import Served, serving


def slow(seconds: float) -> dict[str, bytes]:
    script = f"import time\n\ndef model_fn(d):\n    time.sleep({seconds})\n\n"
    script += "def transform_fn(m, data, kind, accept):\n    return '1.0', 'text/csv'\n"
    return {"code/inference.py": script.encode()}


def asked(served: Served, model: str) -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection(*address(served), timeout=40)
    headers = {"X-Amzn-SageMaker-Target-Model": model, "Content-Type": "text/csv"}
    connection.request("POST", "/endpoints/mme/invocations", CSV, headers)
    with connection.getresponse() as reply:
        told = reply.status, reply.getheader("Retry-After"), reply.read()
    connection.close()
    return told


@pytest.mark.timeout(90)
def test_requests_for_models_that_load_slowly_are_refused_beyond_the_queues(tmp_path: Path) -> None:
    drop(tmp_path / "models", "hot", booster(1).members)
    drop(tmp_path / "models", "next", booster(2).members)
    for number in range(12):
        drop(tmp_path / "models", f"slow/{number}", slow(0.5 + number / 1000))
    flags = ("--queue-per-model", "3", "--queue-total", "8", "--tenant-by", "1")
    with serving(tmp_path, tmp_path / "models", *flags) as served:
        connection = http.client.HTTPConnection(*address(served), timeout=40)
        assert float(post(connection, "hot")[1]) == is_model(1)
        names = ["slow/0"] * 10 + [f"slow/{number}" for number in range(1, 12)]
        with ThreadPoolExecutor(32) as threads:
            waiting = [threads.submit(asked, served, name) for name in names]
            while served.state()["waiting_for_loads"] < 8:
                assert float(post(connection, "hot")[1]) == is_model(1)
            assert float(post(connection, "next")[1]) == is_model(2)  # another tenant's has a place
            told = [one.result() for one in waiting]
        connection.close()
        statuses = [status for status, _, _ in told]
        assert set(statuses) == {200, 503}
        assert statuses[:10].count(200) <= 3
        assert 3 <= statuses.count(200) <= 10
        for status, retry_after, body in told:
            if status == 503:
                assert int(retry_after or 0) >= 1
                assert "waiting" in json.loads(body)["Message"]
        assert served.state()["waiting_for_loads"] == 0
        assert asked(served, "slow/0")[0] == 200
        wait_for(lambda: not served.state()["loading"])  # what was asked for by who was refused
        assert_ledger_is_exact(served)

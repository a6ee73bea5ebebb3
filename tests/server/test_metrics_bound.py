"""What /metrics tells stays small over HTTP, however many models there are and names are tried."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from itertools import count

import pytest

from tests.engines import drop, tarball
from tests.servers import serving

pytestmark = pytest.mark.timeout(60)  # thousands of requests, on a machine that the tests share

MODELS, INVENTED, SHOWN, CONNECTIONS = 60, 3_000, 20, 16
SCRIPT = tarball(
    {
        "code/inference.py": b"""
def model_fn(directory): return None
def transform_fn(model, data, content_type, accept): return "1", "text/csv"
"""
    }
)


def read(url, path):
    with urllib.request.urlopen(url + path, timeout=20) as page:
        return page.read().decode()


async def ask_all(port, names):
    """How often each status was answered."""
    waiting, told = iter(names), {}

    async def ask():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for name in waiting:  # those who ask share it
            head = "POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
            head += f"X-Amzn-SageMaker-Target-Model: {name}\r\n\r\n1"
            writer.write(head.encode())
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            await reader.readexactly(int(re.search(r"content-length: (\d+)", answer)[1]))
            status = int(answer.split()[1])
            told[status] = told.get(status, 0) + 1
        writer.close()
        await writer.wait_closed()

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(ask())
    return told


async def test_metrics_stay_as_small_over_http_however_many_names_are_asked(tmp_path):
    names = [f"tenants/{number:05}/{'m' * 100}.tar.gz" for number in range(MODELS)]
    for name in names:
        drop(tmp_path / "models", name, SCRIPT)
    invented = (f"invented/{number:06}/{'x' * 150}" for number in count())
    with serving(tmp_path, tmp_path / "models") as served:
        port = int(served.url.rpartition(":")[2])
        assert await ask_all(port, names) == {200: MODELS}
        assert (await ask_all(port, (next(invented) for _ in range(100)))).keys() == {400}
        read(served.url, "/ledger?top=1")  # brings what is shown of models up to date
        few = read(served.url, "/metrics")
        assert await ask_all(port, names) == {200: MODELS}
        told = await ask_all(port, (next(invented) for _ in range(INVENTED)))
        assert sum(told.values()) == INVENTED
        read(served.url, "/ledger?top=1")
        many = read(served.url, "/metrics")
    for told in (few, many):
        assert "invented" not in told
        assert len(set(re.findall(r'model="([^"]+)"', told))) == SHOWN
    assert len(many) < len(few) + 2_000  # digits, and series of what had not happened yet
    assert len(many) < 60_000

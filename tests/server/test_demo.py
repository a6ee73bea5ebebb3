"""`mme demo` as a newcomer runs it, and that it would not call a wrong answer right."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from mme.cli.demo import verdict
from mme.cli.demo_tenants import Tenant
from mme.cli.demo_visit import Visit

DEMO = [sys.executable, "-m", "mme.cli.main", "demo"]


def seen(*answer, own=(0.5, 1e6)):
    tenant = Tenant(
        name="t", framework="xgboost", directory=Path(), content_type="text/csv", payload="1",
        predictions=own,
    )  # fmt: skip
    return Visit(tenant=tenant, cold=False, seconds=0.1, answer=answer, fault="", evicted=())


@pytest.mark.timeout(120)
def test_the_demo_shows_cold_hot_and_evicted_and_only_equal_answers(tmp_path):
    done = subprocess.run(DEMO, capture_output=True, text=True, timeout=110, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    rows = re.findall(r"^(tenant-\d+) +(\w+) +(cold|hot) .* (\w+)$", done.stdout, re.MULTILINE)
    assert {word for *_, word in rows} == {"equal"}
    assert {name for name, *_ in rows} == {f"tenant-{number:02}" for number in range(1, 10)}
    assert {temperature for *_, temperature, _ in rows} == {"cold", "hot"}
    assert {framework for _, framework, *_ in rows} == {"xgboost", "torch"}
    assert re.search(r"evicted tenant-\d+", done.stdout)
    assert f"{len(rows)} of {len(rows)}" in done.stdout.split("Summary")[1]
    assert rows[-1][:3:2] == ("tenant-09", "cold")
    assert not Path(re.search(r"into (\S+)", done.stdout)[1]).exists()


@pytest.mark.timeout(120)
def test_kept_it_goes_on_serving_until_interrupted():
    with subprocess.Popen(
        [*DEMO, "--keep"], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as demo:
        told = ""
        for line in demo.stdout:
            told += line
            if "models --watch" in line:
                break
        url = re.search(r"serving at (\S+),", told)[1]
        curl = re.search(r"^curl .*?\n(?=\n)", told, re.MULTILINE | re.DOTALL)[0]
        answer = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True)
        assert answer.stdout.startswith("[")
        script = re.search(r"<<'END'\n(.*?)END", told, re.DOTALL)[1]
        again = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        assert again.stdout == answer.stdout + "\n"
        os.killpg(demo.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
        assert demo.wait(30) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=5)


@pytest.mark.parametrize("answer", [(), (0.5,), (0.5, 1e6, 0), (0.5001, 1e6), (0.5, math.nan)])
def test_any_answer_but_the_frameworks_own_fails_the_demo(answer):
    right, wrong = seen(0.500000001, 1000000.2), seen(*answer)
    assert right.equal
    assert not wrong.equal
    assert verdict([right]) == 0
    assert verdict([right, wrong]) == 1
    assert verdict([]) == 1

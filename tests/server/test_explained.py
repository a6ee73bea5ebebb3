"""An operator asks a running server why a model is where it is, and what more memory would do."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from urllib.parse import quote

import pytest

from tests.engines import drop
from tests.models import CSV, booster
from tests.servers import serving

NAMES = [f"tenant {number}/model.tar.gz" for number in range(16)]


def run(*arguments, environment=None):
    return subprocess.run(
        [sys.executable, "-m", "mme.cli.main", *map(str, arguments)],
        capture_output=True,
        timeout=15,
        check=False,
        env=environment,
    )


def get(url):
    with urllib.request.urlopen(url, timeout=10) as reply:
        return json.load(reply)


def ask(url, name):
    headers = {"X-Amzn-SageMaker-Target-Model": name, "Content-Type": "text/csv"}
    request = urllib.request.Request(f"{url}/endpoints/mme/invocations", CSV, headers)
    with urllib.request.urlopen(request, timeout=10) as reply:
        return reply.read()


@pytest.fixture
def url(tmp_path):
    """A server with room for a part of its models, of which each was asked for twice."""
    members = booster(1, trees=200, depth=6, dart=True).members  # of 0.2 MB
    for name in NAMES:
        drop(tmp_path / "models", name, members)
    with serving(tmp_path, tmp_path / "models", "--memory", "1500000") as served:
        for name in NAMES:
            ask(served.url, name)
            ask(served.url, name)
        yield served.url


@pytest.mark.timeout(60)
def test_the_api_and_the_command_say_what_became_of_a_model(url):
    the_api_tells_of_names_with_slashes_written_plainly_or_encoded(url)
    what_is_no_name_of_a_model_is_not_found(url)
    the_command_says_it_in_sentences(url)


def the_api_tells_of_names_with_slashes_written_plainly_or_encoded(url):
    for name in (NAMES[-1].replace(" ", "%20"), quote(NAMES[-1], safe="")):
        told = get(f"{url}/state/models/{name}")
        assert (told["model"], told["state"]) == (NAMES[-1], "resident")
    assert get(f"{url}/state/models/{quote(NAMES[0])}")["state"] == "evicted"
    assert get(f"{url}/state/models/nobody.tar.gz")["state"] == "never"


def what_is_no_name_of_a_model_is_not_found(url):
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(f"{url}/state/models/a%2F..%2Fb")
    assert refused.value.code == 404
    assert "relative path" in json.load(refused.value)["Message"]
    done = run("explain", "a/../b", "--endpoint-url", url)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"relative path" in done.stderr


def the_command_says_it_in_sentences(url):
    text = run("explain", NAMES[0], "--endpoint-url", url).stdout.decode()
    assert f"{NAMES[0]} is not in memory: it was evicted at " in text
    assert "to make room for tenant " in text
    assert "least recently used of " in text
    told = json.loads(run("explain", NAMES[-1], "--json", "--endpoint-url", url).stdout)
    assert told["copies"][0]["hits"] == 1


@pytest.mark.timeout(60)
def test_whatif_tells_hits_and_seconds_of_another_budget_and_policy(url):
    done = run("whatif", "--memory", "1GiB", "--endpoint-url", url, "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    told = json.loads(done.stdout)
    recorded = get(f"{url}/state/accesses")
    assert recorded["outcomes"] == "mh" * len(NAMES)
    assert told["recorded"]["hits"] == told["recorded"]["misses"] == len(NAMES)
    assert (told["now"]["budget_bytes"], told["now"]["eviction"]) == (1_500_000, "lru")
    (tried,) = told["tried"]
    assert (tried["hits"], tried["loads"], tried["evictions"]) == (len(NAMES), len(NAMES), 0)
    assert tried["saved_seconds"] == pytest.approx(
        told["now"]["load_seconds"] - tried["load_seconds"]
    )
    table = run(
        "whatif", "--memory", "1GiB", "--memory", "2GiB", "--eviction", "gdsf",
        "--endpoint-url", url, environment={"COLUMNS": "120"},
    ).stdout.decode()  # fmt: skip
    assert [line.split()[:2] for line in table.splitlines()[2:4]] == [["what", "if"]] * 2
    assert "32 requests of 16 models" in table

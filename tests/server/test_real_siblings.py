"""multi-model-server and TorchServe behind `mme serve --config`, called by boto3: no fakes at all.

One server for all of these tests, for its containers take seconds to start: those two, which load
two models at most, a small one of a team's own, and the built-in engine, called directly.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import botocore.exceptions
import psutil
import pytest
import torch

from tests import models
from tests.engines import drop
from tests.eventually import eventually
from tests.leaks import SESSION_CHILDREN, SESSION_DESCRIPTORS
from tests.model_servers import mms_model, mms_table, torchserve_model, torchserve_table
from tests.servers import Served, predict, runtime_client, serving

pytestmark = [
    pytest.mark.timeout(90),
    pytest.mark.skipif(shutil.which("java") is None, reason="both are Java programs"),
]
BOTH = pytest.mark.parametrize("hostname", ["mms", "torchserve"])
ROW = [1.0, 2.0, 3.0]
NUMBERS = range(3)
BOOSTER = models.booster(7)


@dataclass
class Siblings:
    """The server, and what each model of each container has to answer for ROW."""

    served: Served
    expected: dict[str, list[Any]]

    def ask(self, hostname: str, number: int | str) -> Any:
        with runtime_client(self.served.url) as client:
            reply = client.invoke_endpoint(
                EndpointName="mme",
                TargetContainerHostname=hostname,
                TargetModel=f"{hostname}/{number}.tar.gz",
                Body=json.dumps(ROW),
                ContentType="application/json",
                Accept="application/json",
            )
            return json.loads(reply["Body"].read())

    def state(self, hostname: str) -> dict[str, Any]:
        containers = self.served.state()["containers"]
        return next(item for item in containers if item["hostname"] == hostname)

    def loaded(self, hostname: str) -> set[str]:
        return {model["model"] for model in self.state(hostname)["models"]}

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self.served.url}/metrics", timeout=10) as page:
            return page.read().decode()

    def listed(self, hostname: str) -> int:
        """How many models the container says that it has."""
        starts = [line for line in self.served.log() if line["event"] == "container_started"]
        port = next(line["port"] for line in reversed(starts) if line["container"] == hostname)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/models", timeout=10) as reply:
            return len(json.load(reply)["models"])


@pytest.fixture(scope="module")
def siblings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siblings]:
    root = tmp_path_factory.mktemp("siblings")
    store = root / "models"
    store.mkdir()
    layers = [torch.nn.Linear(3, 1) for _ in NUMBERS]
    for number in NUMBERS:
        drop(store, f"mms/{number}.tar.gz", mms_model([number, 1, 2]))
        drop(store, f"torchserve/{number}.tar.gz", torchserve_model(layers[number]))
    for hostname in ("mms", "torchserve"):
        drop(store, f"{hostname}/bad.tar.gz", {**mms_model([]), "service.py": b"1 / 0"})
    expected = {
        "mms": [{"sum": pytest.approx(number + 2 + 6)} for number in NUMBERS],
        "torchserve": [pytest.approx(layer(torch.tensor(ROW)).tolist()) for layer in layers],
    }
    config = root / "mme.toml"
    drop(store, "built-in/0.tar.gz", BOOSTER.members)
    small = json.dumps([sys.executable, "-m", "tests.small_container", "prepare"])
    tables = (
        mms_table(root, store),
        torchserve_table(root, store),
        f'[[containers]]\nhostname = "built-in"\nmodels = "{store}"',
        f'[[containers]]\nhostname = "prepare"\ncommand = {small}',
    )
    config.write_text("\n".join(['mode = "Direct"', "failure_seconds = 0.1", *tables]))
    with serving(root, None, "--config", str(config)) as served:
        pid, pipe = served.process.pid, served.process.stdout.fileno()
        SESSION_CHILDREN.add(pid)
        SESSION_DESCRIPTORS.add(pipe)
        yield Siblings(served, expected)
        SESSION_CHILDREN.discard(pid)
        SESSION_DESCRIPTORS.discard(pipe)


async def ready(siblings, hostname):
    await eventually(lambda: siblings.state(hostname)["problem"] is None, 0.1)


async def test_four_containers_of_four_kinds_are_called_directly_by_name(siblings):
    for hostname in ("mms", "torchserve", "built-in", "prepare"):
        await ready(siblings, hostname)
    with runtime_client(siblings.served.url) as client:
        built_in = {"TargetContainerHostname": "built-in"}
        assert predict(client, "built-in/0.tar.gz", **built_in) == pytest.approx(BOOSTER.prediction)
        reply = client.invoke_endpoint(
            EndpointName="mme",
            TargetContainerHostname="prepare",
            Body=json.dumps({"percent": [100 * number for number in models.ROW]}),
            ContentType="application/json",
        )
        assert reply["Body"].read() == models.CSV
    for hostname in ("mms", "torchserve"):
        assert siblings.ask(hostname, 0) == siblings.expected[hostname][0]
    text = siblings.metrics()
    for hostname in ("mms", "torchserve", "built-in", "prepare"):
        assert f'ContainerInvocations_total{{ContainerName="{hostname}"' in text


@BOTH
async def test_each_model_answers_as_itself(siblings, hostname):
    await ready(siblings, hostname)
    for number in (0, 1, 0):
        assert siblings.ask(hostname, number) == siblings.expected[hostname][number]


@BOTH
async def test_the_least_recently_used_model_is_unloaded_for_another(siblings, hostname):
    await ready(siblings, hostname)
    for number in (1, 0, 2):
        assert siblings.ask(hostname, number) == siblings.expected[hostname][number]
    assert siblings.loaded(hostname) == {f"{hostname}/0.tar.gz", f"{hostname}/2.tar.gz"}
    assert siblings.listed(hostname) == 2


@BOTH
async def test_a_model_that_does_not_load_is_told_with_the_containers_status(siblings, hostname):
    await ready(siblings, hostname)
    with pytest.raises(botocore.exceptions.ClientError) as failed:
        siblings.ask(hostname, "bad")
    answer = failed.value.response
    assert (answer["Error"]["Code"], answer["OriginalStatusCode"]) == ("ModelError", 500)
    assert "Failed to start workers" in answer["OriginalMessage"]


@BOTH
async def test_a_container_that_is_killed_comes_back_and_gets_its_models_again(siblings, hostname):
    await ready(siblings, hostname)
    assert siblings.ask(hostname, 0) == siblings.expected[hostname][0]
    restarts, pid = siblings.state(hostname)["restarts"], siblings.state(hostname)["pid"]
    started = psutil.Process(pid).children(recursive=True)
    for process in started:
        if process.name() == "java":
            process.send_signal(signal.SIGKILL)
    await eventually(lambda: siblings.state(hostname)["restarts"] > restarts, 0.1)
    await ready(siblings, hostname)
    assert siblings.ask(hostname, 0) == siblings.expected[hostname][0]
    assert not [process for process in started if process.is_running()]

"""An endpoint of several containers as a user starts it: `mme serve --config`, called by boto3."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import botocore.exceptions
import pytest

from tests import small_container
from tests.engines import drop
from tests.eventually import eventually
from tests.models import CSV, ROW, booster
from tests.raw_http import reply, serve_raw
from tests.servers import runtime_client, serving
from tests.siblings import read_body

FIRST, SECOND = booster(1), booster(2)


def readiness(url):
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=10) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)


def metrics(url):
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as page:
        return page.read().decode()


def shown_models(url):
    command = [sys.executable, "-m", "mme.cli.main", "models", "--endpoint-url", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout


async def ready(url):
    await eventually(lambda: readiness(url)["ready"], 0.1)


@pytest.fixture
def models(tmp_path):
    directory = tmp_path / "models"
    directory.mkdir()
    drop(directory, "first.tar.gz", FIRST.members)
    drop(directory, "second.tar.gz", SECOND.members)
    return directory


def configured(root, text):
    path = root / "mme.toml"
    path.write_text(text)
    return path


def asked(client, **arguments):
    reply = client.invoke_endpoint(
        EndpointName="mme", Body=CSV, ContentType="text/csv", Accept="text/csv", **arguments
    )
    return float(reply["Body"].read())


async def test_direct_calls_reach_the_built_in_engine_and_fixed_models_by_name(tmp_path, models):
    config = configured(
        tmp_path,
        f"""
        mode = "Direct"
        [[containers]]
        hostname = "tenants"
        models = "{models}"
        [[containers]]
        hostname = "fixed"
        model = "{models}/second.tar.gz"
        """,
    )
    with (
        serving(tmp_path, None, "--config", str(config)) as served,
        runtime_client(served.url) as client,
    ):
        await ready(served.url)
        tenants = {"TargetContainerHostname": "tenants", "TargetModel": "first.tar.gz"}
        assert asked(client, **tenants) == pytest.approx(FIRST.prediction)
        assert asked(client, TargetContainerHostname="fixed") == pytest.approx(SECOND.prediction)
        for wrong, says in (
            ({}, "missing a target container hostname header"),
            ({"TargetContainerHostname": "third"}, "Container third of endpoint mme not found"),
            (
                {"TargetContainerHostname": "fixed", "TargetModel": "first.tar.gz"},
                "not a multi-model endpoint",
            ),
        ):
            with pytest.raises(botocore.exceptions.ClientError) as refused:
                asked(client, **wrong)
            assert refused.value.response["Error"]["Code"] == "ValidationError"
            assert says in refused.value.response["Error"]["Message"]
        missing = {"TargetContainerHostname": "tenants", "TargetModel": "none.tar.gz"}
        with pytest.raises(botocore.exceptions.ClientError, match="Failed to download model data"):
            asked(client, **missing)
        state = served.state()
        assert [item["hostname"] for item in state["containers"]] == ["tenants", "fixed"]
        shown = shown_models(served.url)
        assert "tenants" in shown
        assert "fixed" in shown
        requests = served.logged(route="endpoint_invocations")
        assert list(requests[0]["containers"]) == ["tenants"]


async def test_a_fixed_model_hands_its_answer_to_the_next_in_the_form_its_environment_says(
    tmp_path, models
):
    script = (
        "def model_fn(d): return None\n"
        "def transform_fn(m, data, content_type, accept):\n"
        "    text = data if isinstance(data, str) else data.decode()\n"
        "    return f'{content_type}|{accept}|{float(text):.6f}', 'text/plain'\n"
    )
    drop(models, "last.tar.gz", {"code/inference.py": script.encode()})
    config = configured(
        tmp_path,
        f"""
        [[containers]]
        model = "{models}/first.tar.gz"
        environment = {{ SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT = "text/csv" }}
        [[containers]]
        hostname = "last"
        model = "{models}/last.tar.gz"
        """,
    )
    with (
        serving(tmp_path, None, "--config", str(config)) as served,
        runtime_client(served.url) as client,
    ):
        await ready(served.url)
        reply = client.invoke_endpoint(
            EndpointName="mme", Body=CSV, ContentType="text/csv", Accept="application/x-last"
        )
        content_type, accept, answer = reply["Body"].read().decode().split("|")
        assert (content_type.partition(";")[0], accept) == ("text/csv", "application/x-last")
        assert float(answer) == pytest.approx(FIRST.prediction, abs=1e-5)
        with pytest.raises(botocore.exceptions.ClientError) as failed:
            client.invoke_endpoint(EndpointName="mme", Body=b"x,y", ContentType="text/csv")
        error = failed.value.response
        assert error["Error"]["Code"] == "ModelError"
        assert "from container-1 with message" in error["Error"]["Message"]
        assert 'ContainerLatency_count{ContainerName="last"' in metrics(served.url)


async def test_a_model_that_can_not_be_loaded_is_named_by_readiness(tmp_path, models):
    drop(models, "broken.tar.gz", b"no tarball")
    config = configured(
        tmp_path,
        f"""
        [[containers]]
        hostname = "good"
        model = "{models}/first.tar.gz"
        [[containers]]
        hostname = "bad"
        model = "{models}/broken.tar.gz"
        """,
    )
    with serving(tmp_path, None, "--config", str(config)) as served:
        reasons = []

        def is_told():
            reasons[:] = readiness(served.url)["reasons"]
            return len(reasons) == 1 and "being loaded" not in reasons[0]

        await eventually(is_told, 0.1)
        assert reasons[0].startswith("container bad: ")


async def test_a_containers_answer_has_the_limit_of_a_models(tmp_path):
    def invoked(url):
        with runtime_client(url) as client:
            return client.invoke_endpoint(EndpointName="mme", Body=b"x")["Body"].read()

    async def answer(reader, writer):
        await read_body(server, reader)
        await reply("200 OK", b"x" * 2000)(reader, writer)

    async def answer_any(reader, writer):
        is_asked = server.requests[-1].startswith(b"POST")
        await (answer if is_asked else reply("200 OK", b""))(reader, writer)

    async with serve_raw(answer_any) as server:
        table = f'[[containers]]\nhostname = "other"\nurl = "{server.endpoint}"\n'
        config = str(configured(tmp_path, table))
        with serving(tmp_path, None, "--config", config, "--answer-limit", "2000") as served:
            assert len(await asyncio.to_thread(invoked, served.url)) == 2000
        with serving(tmp_path, None, "--config", config, "--answer-limit", "1999") as served:
            with pytest.raises(botocore.exceptions.ClientError, match="is 1999 bytes") as refused:
                await asyncio.to_thread(invoked, served.url)
            assert refused.value.response["OriginalStatusCode"] == 413


def started(role, *lines):
    command = json.dumps([sys.executable, "-m", "tests.small_container", role])
    return "\n".join(["[[containers]]", f'hostname = "{role}"', f"command = {command}", *lines, ""])


def pipeline(root, models):
    tenants = f"""
        [[containers]]
        hostname = "tenants"
        models = "{models}"
        environment = {{ SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT = "text/csv" }}
        """
    return configured(root, started("prepare") + tenants + started("explain"))


PERCENT = json.dumps({"percent": [100 * number for number in ROW]}).encode()


def explained(client, model, body=PERCENT):
    reply = client.invoke_endpoint(
        EndpointName="mme", TargetModel=model, Body=body, ContentType="application/json"
    )
    return json.loads(reply["Body"].read()), reply


async def test_a_pipeline_prepares_predicts_by_target_model_and_explains(tmp_path, models):
    """Started siblings around the built-in engine, equal to the same computation in one process."""
    with (
        serving(tmp_path, None, "--config", str(pipeline(tmp_path, models))) as served,
        runtime_client(served.url) as client,
    ):
        await ready(served.url)
        for model, trained in (("first.tar.gz", FIRST), ("second.tar.gz", SECOND)):
            told, reply = explained(client, model)
            row, _ = small_container.prepare(PERCENT)
            assert row == CSV
            expected = json.loads(small_container.explain(str(trained.prediction).encode())[0])
            assert told["word"] == expected["word"]
            assert told["score"] == pytest.approx(expected["score"])
            assert reply["ContentType"] == "application/json"
            assert reply["CustomAttributes"] == "seen=yes"
        with pytest.raises(botocore.exceptions.ClientError) as failed:
            explained(client, "first.tar.gz", b'{"wrong": 1}')
        error = failed.value.response
        assert (error["Error"]["Code"], error["OriginalStatusCode"]) == ("ModelError", 400)
        assert "Received client error (400) from prepare with message" in error["Error"]["Message"]
        assert "prepare: KeyError('percent')" in error["OriginalMessage"]

        def told():
            return [each["container"] for each in served.log() if each.get("status") == 424]

        await eventually(told, 0.1)
        assert told() == ["prepare"]


async def test_a_started_sibling_that_dies_costs_its_requests_and_is_started_again(
    tmp_path, models
):
    config = pipeline(tmp_path, models)
    with (
        serving(tmp_path, None, "--config", str(config)) as served,
        runtime_client(served.url) as client,
    ):
        await ready(served.url)
        before = explained(client, "first.tar.gz")[0]
        [explain] = [item for item in served.state()["containers"] if item["hostname"] == "explain"]
        os.kill(explain["pid"], signal.SIGKILL)
        with pytest.raises(botocore.exceptions.ClientError) as failed:
            explained(client, "first.tar.gz")
        assert failed.value.response["OriginalStatusCode"] == 0
        assert "from explain with message" in failed.value.response["Error"]["Message"]

        def is_back():
            [now] = [item for item in served.state()["containers"] if item["hostname"] == "explain"]
            return now["pid"] not in (None, explain["pid"]) and now["problem"] is None

        await eventually(is_back, 0.1)
        assert explained(client, "first.tar.gz")[0] == before

"""An endpoint of several containers as a user starts it: `mme serve --config`, called by boto3."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request

import botocore.exceptions
import pytest

from tests.engines import drop
from tests.eventually import eventually
from tests.models import CSV, booster
from tests.servers import runtime_client, serving

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
        requests = [line for line in served.log() if line.get("route") == "endpoint_invocations"]
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

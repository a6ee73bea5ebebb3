"""A front with keys: who is let in and who is not, as boto3, the AWS CLI and others see it."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import boto3
import botocore.exceptions
import pytest
from botocore import UNSIGNED
from botocore.config import Config as ClientConfig

from mme.config import ServerConfig
from mme.front.access import Action
from mme.front.credentials import KeyFile
from mme.front.dialects import Management, open_dialects
from mme.front.server import Front
from mme.metrics import Metrics
from mme.usage.account import Usage
from mme.usage.statement import Statement
from tests.rooms.front_double import NAME, FakeService, connected

SECRET, OPERATORS = "a-secret-of-forty-characters-0123456789a", "the-api-key-of-operators"
ACME, SESSION = "the-api-key-of-acme-00", "a-session-token"
ADMINS = "the-api-key-of-acme-admins"
KEYS = f"""
[[keys]]
name = "acme"
access_key_id = "AKIDACME"
secret_access_key = "{SECRET}"
api_key = "{ACME}"
actions = ["invoke", "load"]
models = ["acme/*"]

[[keys]]
name = "session"
access_key_id = "AKIDSESSION"
secret_access_key = "{SECRET}"
session_token = "{SESSION}"

[[keys]]
name = "gone"
access_key_id = "AKIDGONE"
secret_access_key = "{SECRET}"
expires = 2020-01-01T00:00:00Z

[[keys]]
name = "operators"
api_key = "{OPERATORS}"
actions = ["invoke", "load", "admin"]

[[keys]]
name = "acme-admins"
api_key = "{ADMINS}"
actions = ["invoke", "load", "admin"]
models = ["acme/*"]

[[keys]]
name = "nobody"
api_key = "the-key-of-nobody-at-all"
actions = []
"""
MINE, ANOTHERS = "acme/m.tar.gz", "umbrella/m.tar.gz"


class Operated:
    """Target models: two in memory; what is done to which is noted."""

    def __init__(self):
        self.done = []

    def names(self):
        return [MINE, ANOTHERS]

    def describe(self, key):
        self.done.append(key)
        return {"name": key, "framework": "none"}

    async def load(self, key):
        return self.describe(key)

    async def prewarm(self, keys):
        self.done += keys
        return {"missing": []}

    unload, refresh, pin, unpin = load, load, describe, describe


class Watched:
    """What a console shows: both models."""

    async def glance(self):
        return {"at": 0.0, "rates": None, "blocks": [MINE, ANOTHERS]}

    def events(self):
        return [EVICTED]

    async def find(self, search):
        return {"models": [MINE, ANOTHERS]}

    def elsewhere(self, key):
        return []


class Kept:
    """A ledger, of both."""

    async def read(self, window):
        used = [Usage(MINE), Usage(ANOTHERS)]
        return Statement(window=window, models=used, total=Usage(""), model_count=2)


EVICTED = {"kind": "evicted", "model": MINE, "reason": "least used", "for_whom": ANOTHERS}


class Service(FakeService):
    def explain(self, key):
        return {"model": key, "last_event": EVICTED, "events": [EVICTED]}

    async def accesses(self):
        return {"models": []}


MANAGEMENT = Management(operated=Operated(), watched=Watched(), usage=Kept())


@asynccontextmanager
async def guarded(tmp_path, service=None, keys=KEYS, tls=None, **settings):
    """A front with that key file, in the ordinary mode."""
    path = tmp_path / "keys.toml"
    path.write_text(keys)
    config = ServerConfig(port=0, endpoint_name=NAME, account_id="123456789012", **settings)
    front = Front(
        service or Service(),
        config,
        Metrics(NAME, "AllTraffic"),
        MANAGEMENT,
        keys=KeyFile(str(path)),
        tls=tls,
    )
    await front.start()
    try:
        yield front
    finally:
        await front.close()


async def called(front, access_key="AKIDACME", secret=SECRET, token=None, config=None, **arguments):
    """InvokeEndpoint through boto3, in a thread."""

    def call():
        client = boto3.Session(access_key, secret, token, region_name="eu-west-1").client(
            "sagemaker-runtime",
            endpoint_url=f"http://127.0.0.1:{front.port}",
            config=ClientConfig(retries={"total_max_attempts": 1}, **(config or {})),
        )
        asked = {"EndpointName": NAME, "Body": b"1,2", "TargetModel": MINE, **arguments}
        try:
            return client.invoke_endpoint(**asked)["Body"].read()
        finally:
            client.close()

    return await asyncio.to_thread(call)


async def refused(front, **arguments) -> tuple[str, int, str]:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        await called(front, **arguments)
    told = caught.value.response
    status = told["ResponseMetadata"]["HTTPStatusCode"]
    return told["Error"]["Code"], status, told["Error"]["Message"]


async def asked(front, method, path, body=b"", port=None, **headers):
    """Status and body of one plain request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port or front.port)
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close"]
    lines += [f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    head = await reader.readuntil(b"\r\n\r\n")
    rest = await (reader.readline() if b"event-stream" in head else reader.read())
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), rest


def bearing(key):
    return {"authorization": f"Bearer {key}"}


async def test_boto3_with_a_key_is_answered(tmp_path):
    service = Service()
    async with guarded(tmp_path, service) as front:
        assert await called(front, Body=b"payload") == b"payload"
        assert await called(front, Body=b"", TargetModel="acme/é  ü.tar.gz") == b""
        assert await called(front, "AKIDSESSION", token=SESSION) == b"1,2"
    assert [seen.target_model for seen in service.seen] == [MINE, "acme/é  ü.tar.gz", MINE]


async def test_boto3_raises_what_aws_would_make_it_raise(tmp_path):
    service = Service()
    async with guarded(tmp_path, service) as front:
        code, status, message = await refused(front, TargetModel=ANOTHERS)
        assert (code, status) == ("AccessDeniedException", 403)
        assert message.startswith(
            "User: arn:aws:iam::123456789012:user/acme is not authorized to perform: "
            "sagemaker:InvokeEndpoint on resource: "
            f"arn:aws:sagemaker:us-east-1:123456789012:endpoint/{NAME} "
        )
        wrong = await refused(front, secret="wrong")
        assert wrong[:2] == ("InvalidSignatureException", 403)
        for unknown in ({"access_key": "AKIDNOBODY"}, {"access_key": "AKIDSESSION"}):
            assert (await refused(front, **unknown))[:2] == ("UnrecognizedClientException", 403)
        stolen = {"access_key": "AKIDSESSION", "token": "another"}
        assert (await refused(front, **stolen))[:2] == ("UnrecognizedClientException", 403)
        assert (await refused(front, token="none of ours"))[0] == "UnrecognizedClientException"
        gone = await refused(front, access_key="AKIDGONE")
        assert gone[:2] == ("ExpiredTokenException", 403)
        unsigned = {"config": {"signature_version": UNSIGNED}}
        missing = await refused(front, **unsigned)
        assert missing[:2] == ("MissingAuthenticationToken", 403)
    assert service.seen == []


async def test_the_aws_cli_signs_and_is_let_in_or_told_why_not(tmp_path):
    shown, answer = tmp_path / "body", tmp_path / "answer"
    shown.write_text("1,2")

    async def aws(front, model):
        process = await asyncio.create_subprocess_exec(
            shutil.which("aws", path=Path(sys.executable).parent) or "aws",
            *("sagemaker-runtime", "invoke-endpoint", "--endpoint-name", NAME),
            *("--body", f"fileb://{shown}", "--target-model", model, str(answer)),
            *("--endpoint-url", f"http://127.0.0.1:{front.port}", "--region", "eu-west-1"),
            env={"AWS_ACCESS_KEY_ID": "AKIDACME", "AWS_SECRET_ACCESS_KEY": SECRET, "PATH": ""},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        told, _ = await process.communicate()
        return process.returncode, told.decode()

    async with guarded(tmp_path) as front:
        status, told = await aws(front, MINE)
        assert (status, answer.read_bytes()) == (0, b"1,2"), told
        status, told = await aws(front, ANOTHERS)
        assert status != 0
        assert "(AccessDeniedException)" in told


async def test_api_keys_open_the_same_doors(tmp_path):
    service = Service()
    models = {"x_amzn_sagemaker_target_model": MINE}
    async with guarded(tmp_path, service) as front:
        for headers in (bearing(ACME), {"x_api_key": ACME}, {"authorization": f"bearer  {ACME}"}):
            told = await asked(front, "POST", "/invocations", b"x", **models, **headers)
            assert told == (200, b"x")
        for headers in (bearing("wrong"), {"x_api_key": "wrong"}, {"authorization": "Basic eA=="}):
            told = await asked(front, "POST", "/invocations", b"x", **models, **headers)
            assert told[0] in {400, 403}
            assert b"wrong" not in told[1]
        others = {"x_amzn_sagemaker_target_model": ANOTHERS}
        status, _ = await asked(front, "POST", "/invocations", b"x", **others, **bearing(ACME))
        assert status == 403
    assert len(service.seen) == 3


async def test_each_dialect_refuses_in_its_own_shape(tmp_path):
    async with guarded(tmp_path) as front:
        status, body = await asked(front, "POST", f"/v2/models/{MINE}/infer", b"{}")
        assert (status, list(json.loads(body))) == (401, ["error"])
        path = f"/v2/models/{ANOTHERS}/infer"
        status, body = await asked(front, "POST", path, b"{}", **bearing(ACME))
        assert (status, list(json.loads(body))) == (403, ["error"])
        status, body = await asked(front, "GET", "/models")
        assert (status, json.loads(body)["type"]) == (401, "UnauthorizedException")
        status, body = await asked(front, "GET", "/state")
        assert (status, list(json.loads(body))) == (403, ["Message"])


def every_route():
    service, config = Service(), ServerConfig(endpoint_name=NAME)
    _, routes = open_dialects(service, list, config, MANAGEMENT)
    return routes


OPEN = {"ping", "livez", "readyz", "oip_live", "oip_ready", "openapi"}
OPEN |= {"console_page", "console_file"}
NAMELESS = {"oip_server", "list_models", "oip_index", "oip_unknown"}  # or only what is one's own


def path_of(route, model):
    path = route.path.replace("{...}", model)
    return path.replace("{}", NAME if "endpoints" in path else model.replace("/", "%2F"))


@pytest.mark.parametrize("route", every_route(), ids=lambda route: f"{route.method} {route.path}")
async def test_a_route_asks_who_calls_and_whether_they_may(route, tmp_path):
    """All of them: without a key, with one for nothing, with ones for other models alone."""

    async def called_with(key, model=ANOTHERS):
        body = json.dumps({"models": [model]} if route.path == "/prewarm" else {}).encode()
        headers = {"x_amzn_sagemaker_target_model": model, **(bearing(key) if key else {})}
        return await asked(front, route.method, path_of(route, model), body, **headers)

    async with guarded(tmp_path) as front:
        nobody, _ = await called_with(None)
        powerless, _ = await called_with("the-key-of-nobody-at-all")
        others = [await called_with(key) for key in (ACME, ADMINS)]
        _, of_mine = await called_with(ADMINS, MINE)
        allowed, _ = await called_with(OPERATORS)
    assert ANOTHERS.encode() not in of_mine
    if route.name in OPEN:
        assert route.action is Action.OPEN
        assert [nobody, powerless, *(status for status, _ in others)] == [200] * 4
        return
    assert route.action is not Action.OPEN
    assert nobody in {401, 403}
    assert powerless == 403
    for status, told in others:
        # what names no model at all may be known to any key that may call it
        named_none = route.name in NAMELESS or route.name.startswith("InvokeEndpoint")
        assert status == 403 or (named_none and ANOTHERS.encode() not in told)
    assert allowed not in {401, 403}


async def test_a_body_is_not_received_from_who_can_not_be_right(tmp_path):
    async with guarded(tmp_path) as front, connected(front) as wire:
        wire.send(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        response = await wire.response()
        assert response.status == 403
        assert response.headers["connection"] == "close"


async def test_operators_with_an_address_of_their_own_are_served_there_only(tmp_path):
    async with guarded(tmp_path, admin_port=0) as front:
        assert front.admin_port != front.port
        for path in ("/state", "/metrics", "/models", f"/state/models/{MINE}"):
            assert (await asked(front, "GET", path, **bearing(OPERATORS)))[0] == 404
        for path in ("/state", "/metrics", "/models"):
            told = await asked(front, "GET", path, port=front.admin_port, **bearing(OPERATORS))
            assert told[0] == 200
            assert (await asked(front, "GET", path, port=front.admin_port))[0] in {401, 403}
        told = await asked(
            front, "POST", "/invocations", port=front.admin_port, **bearing(OPERATORS)
        )
        assert told[0] == 404
        for port in (front.port, front.admin_port):
            assert (await asked(front, "GET", "/livez", port=port))[0] == 200


async def test_lists_show_a_key_its_own_models_only(tmp_path):
    async with guarded(tmp_path) as front:
        _, listed = await asked(front, "GET", "/models", **bearing(ACME))
        assert [model["name"] for model in json.loads(listed)["models"]] == [MINE]
        _, index = await asked(front, "POST", "/v2/repository/index", **bearing(ACME))
        assert [entry["name"] for entry in json.loads(index)] == [MINE]
        _, listed = await asked(front, "GET", "/models", **bearing(OPERATORS))
        assert len(json.loads(listed)["models"]) == 2


@pytest.mark.parametrize("path", ["/prewarm", "/v2/repository/index"])
async def test_json_that_is_nested_too_deep_is_the_clients_fault(path, tmp_path):
    body = b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    async with guarded(tmp_path) as front:
        assert (await asked(front, "POST", path, body, **bearing(OPERATORS)))[0] == 400

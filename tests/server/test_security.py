"""The whole server with keys and TLS, as boto3 and tritonclient see it; and open, as it refuses."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request

import boto3
import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from botocore.config import Config
from tritonclient.utils import InferenceServerException

from tests.certificates import issue
from tests.engines import drop
from tests.models import ROW, booster
from tests.servers import predict, serving

pytestmark = pytest.mark.timeout(90)
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what has to be guarded
MINE, ANOTHERS = "acme/m.tar.gz", "umbrella/m.tar.gz"
SECRET, ACME, OPERATORS = "the-secret-of-acme", "the-api-key-of-acme", "the-api-key-of-operators"
KEYS = f"""
[[keys]]
name = "acme"
access_key_id = "AKIDACME"
secret_access_key = "{SECRET}"
api_key = "{ACME}"
models = ["acme/*"]

[[keys]]
name = "operators"
api_key = "{OPERATORS}"
actions = ["load", "admin"]
"""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def got(url, certificate, key=None):
    """The status of a GET."""
    context = ssl.create_default_context(cafile=certificate)
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def infer(address, certificate, model, **headers):
    credentials = triton.InferenceServerClient(
        address, ssl=True, root_certificates=str(certificate)
    )
    with contextlib.closing(credentials) as client:
        assert client.is_server_live()
        given = triton.InferInput("x", [1, 4], "FP32")
        given.set_data_from_numpy(np.array([ROW], dtype=np.float32))
        return client.infer(model, [given], headers=headers).as_numpy("output__0").tolist()


def test_keys_tls_and_an_admin_port_hold_for_https_and_grpc(tmp_path):
    (tmp_path / "models").mkdir()
    for model in (MINE, ANOTHERS):
        drop(tmp_path / "models", model, booster(1).members)
    (tmp_path / "keys.toml").write_text(KEYS)
    cert, key = issue(tmp_path, "server")
    grpc_port, admin_port = free_port(), free_port()
    flags = [
        *("--host", EVERYWHERE, "--access-keys", str(tmp_path / "keys.toml")),
        *("--tls-cert", str(cert), "--tls-key", str(key)),
        *("--grpc-port", str(grpc_port), "--admin-port", str(admin_port)),
    ]
    with serving(tmp_path, tmp_path / "models", *flags) as served:
        assert served.url.startswith(f"https://{EVERYWHERE}:")
        url = served.url.replace(EVERYWHERE, "127.0.0.1")
        client = boto3.client(
            "sagemaker-runtime",
            endpoint_url=url,
            region_name="eu-central-1",
            aws_access_key_id="AKIDACME",
            aws_secret_access_key=SECRET,
            verify=str(cert),
            config=Config(retries={"max_attempts": 0}),
        )
        with contextlib.closing(client):
            assert predict(client, MINE) == pytest.approx(booster(1).prediction)
            with pytest.raises(client.exceptions.ClientError, match="AccessDeniedException"):
                predict(client, ANOTHERS)

        operators = f"https://127.0.0.1:{admin_port}"
        assert got(f"{url}/readyz", cert) == 200
        assert got(f"{url}/state", cert, OPERATORS) == 404
        assert got(f"{operators}/state", cert, OPERATORS) == 200
        assert got(f"{operators}/state", cert, ACME) == 403
        assert got(f"{operators}/metrics", cert) == 403

        address = f"127.0.0.1:{grpc_port}"
        bearing = {"authorization": f"Bearer {ACME}"}
        assert infer(address, cert, MINE, **bearing) == [booster(1).prediction]
        for model, headers, code in (
            (ANOTHERS, bearing, "PERMISSION_DENIED"),
            (MINE, {}, "UNAUTHENTICATED"),
            (MINE, {"authorization": "Bearer wrong"}, "UNAUTHENTICATED"),
            (MINE, {"authorization": f"Bearer {OPERATORS}"}, "PERMISSION_DENIED"),
        ):
            with pytest.raises(InferenceServerException, match=code):
                infer(address, cert, model, **headers)
        trusted = grpc.ssl_channel_credentials(cert.read_bytes())
        with grpc.secure_channel(address, trusted) as channel:
            unload = channel.unary_unary("/inference.GRPCInferenceService/RepositoryModelUnload")
            with pytest.raises(grpc.RpcError) as caught:
                unload(b"", metadata=[("authorization", f"Bearer {OPERATORS}")])
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

        asked = served.logged(2, event="request", model=MINE)
        assert [line["caller"] for line in asked] == ["acme", "acme"]  # over HTTPS, over gRPC
        for secret in (SECRET, ACME, OPERATORS, "Signature"):
            assert secret not in served.log_path.read_text()


def hello(name):
    """The first message of a TLS handshake, which asks for the server of that name."""
    context, sent = ssl.create_default_context(), ssl.MemoryBIO()
    context.set_alpn_protocols(["h2"])
    stand_in = "a." * (len(name) // 2) + "a" * (len(name) % 2)
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=stand_in)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read().replace(stand_in.encode(), name.encode())


def test_the_name_that_a_handshake_asks_for_forges_no_line_of_the_log(tmp_path):
    (tmp_path / "models").mkdir()
    cert, key = issue(tmp_path, "server")
    port = free_port()
    flags = ["--tls-cert", str(cert), "--tls-key", str(key), "--grpc-port", str(port)]
    forged = 'x\n{"level":"info","event":"request","caller":"operators"}\n'
    with serving(tmp_path, tmp_path / "models", *flags) as served:
        for to in (port, int(served.url.rpartition(":")[2])):
            with socket.create_connection(("127.0.0.1", to), timeout=10) as peer:
                peer.sendall(hello(forged))
                with contextlib.suppress(ConnectionError):
                    assert peer.recv(1) == b"\x16"  # the handshake goes on: the name was read
        address = f"127.0.0.1:{port}"
        with triton.InferenceServerClient(address, ssl=True, root_certificates=str(cert)) as client:
            assert client.is_server_live()
        assert "operators" not in served.log_path.read_text()
        served.log()  # which is JSON, every line


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--host", EVERYWHERE), "mme: host: 0.0.0.0 can be reached by others"),
        (("--access-keys", "/none"), "mme: access_keys: cannot read /none"),
    ],
)
def test_a_server_that_would_lie_open_or_has_no_keys_ends_with_2(tmp_path, flags, said):
    command = [sys.executable, "-m", "mme.cli.main", "serve", "--models", str(tmp_path), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said)


def test_no_auth_says_so_aloud_and_serves(tmp_path):
    with serving(tmp_path, tmp_path, "--host", EVERYWHERE, "--no-auth") as served:
        assert served.url.startswith(f"http://{EVERYWHERE}:")


def sent(port, head):
    """What is answered to these bytes, until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(head + b"Connection: close\r\nContent-Length: 0\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("form", ["json", "text"])
def test_what_clients_send_can_not_forge_a_line_of_the_log(tmp_path, form):
    forged = b'%0a2026-01-01 error event%0d%0a{"event":"forged"}%1b[31m'.replace(b" ", b"%20")
    hostile = b'm\xe2\x80\xa8{"event":"forged"}\xc2\x85\x1b[31m\xff'
    with serving(tmp_path, tmp_path, "--log-format", form) as served:
        port = int(served.url.rsplit(":", 1)[1])
        for head in (
            b"GET /" + forged + b" HTTP/1.1\r\nHost: x\r\n",
            b"POST /endpoints/" + forged + b"/invocations HTTP/1.1\r\nHost: x\r\n",
            b"GET /\x1b[31m\r\x85 HTTP/1.1\r\nHost: x\r\n",
            b"POST /invocations HTTP/1.1\r\nHost: x\r\n"
            b"X-Amzn-SageMaker-Target-Model: " + hostile + b"\r\n",
        ):
            assert b" 40" in sent(port, head)[:12]
    written = served.log_path.read_bytes()
    assert written.isascii()
    assert not {b"\x1b", b"\r"} & {written[at : at + 1] for at in range(len(written))}
    told = [line for line in written.decode().splitlines() if "request_id" in line]
    assert len(told) == 4
    for line in written.decode().splitlines():
        if form == "json":
            assert json.loads(line)["event"] != "forged"
        else:
            assert re.match(r"[0-9-]{10}T[0-9:.]{15}Z (info|warning|error) +[a-z_]+ ", line), line

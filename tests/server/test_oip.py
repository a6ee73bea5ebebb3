"""The Open Inference Protocol of a real server, spoken by tritonclient and in plain JSON."""

from __future__ import annotations

import contextlib
import json
import struct
import urllib.error
import urllib.request

import gevent
import numpy as np
import pytest
import tritonclient.http as triton

from tests.engines import drop
from tests.models import ROW, booster
from tests.servers import runtime_client, serving
from tests.tensor_models import onnx_sum, torch_double

pytestmark = [
    pytest.mark.timeout(90),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
TREES, TORCH, ONNX = "tenants/a.tar.gz", "torch.tar.gz", "sum.tar.gz"
SAGEMAKERS = "application/vnd.sagemaker-triton.binary+json"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("oip")
    (root / "models").mkdir()
    drop(root / "models", TREES, booster(1).members)
    drop(root / "models", TORCH, {"model.pt": torch_double()})
    drop(root / "models", ONNX, {"model.onnx": onnx_sum()})
    drop(root / "models", "broken.tar.gz", {"model.onnx": b"no model"})
    return root / "models"


@pytest.fixture
def server(tmp_path, models):
    with serving(tmp_path, models) as served:
        yield served


def call(server, path, body=None, **headers):
    """Status, headers and body of a plain request."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{server.url}{path}", data, named)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def tensor(name, array, datatype):
    return triton.InferInput(name, list(array.shape), datatype)


@contextlib.contextmanager
def triton_client(server):
    address = server.url.removeprefix("http://")
    client = triton.InferenceServerClient(address, network_timeout=30)
    try:
        yield client
    finally:
        client.close()
        gevent.get_hub().destroy(destroy_loop=True)  # or its descriptors stay


def test_tritonclient_is_answered_as_the_frameworks_answer_in_json_and_binary(server):
    with triton_client(server) as client:
        row = np.array([ROW], dtype=np.float32)
        pair = np.array([[1, 2], [3, 4]], dtype=np.float32)
        words = np.array([b"a", "é".encode()], dtype=object)
        for binary in (True, False):
            given = tensor("any", row, "FP32")
            given.set_data_from_numpy(row, binary_data=binary)
            asked = [triton.InferRequestedOutput("output__0", binary_data=binary)]
            found = client.infer(TREES, [given], outputs=asked, request_id="r1")
            assert found.as_numpy("output__0").tolist() == [booster(1).prediction]
            assert found.get_response()["id"] == "r1"
            assert found.get_response()["model_name"] == TREES

            given = tensor("x", pair, "FP32")
            given.set_data_from_numpy(pair, binary_data=binary)
            found = client.infer(TORCH, [given], model_version="1")
            assert found.as_numpy("output_0").tolist() == (pair * 2).tolist()

            inputs = []
            for name, array, kind in (
                ("left", pair, "FP32"),
                ("right", pair, "FP32"),
                ("word", words, "BYTES"),
            ):
                inputs.append(tensor(name, array, kind))
                inputs[-1].set_data_from_numpy(array, binary_data=binary)
            asked = [triton.InferRequestedOutput(n, binary_data=binary) for n in ("same", "sum")]
            found = client.infer(ONNX, inputs, outputs=asked)
            assert found.as_numpy("sum").tolist() == (pair * 2).tolist()
            same = [
                cell if isinstance(cell, bytes) else cell.encode()
                for cell in found.as_numpy("same")
            ]
            assert same == words.tolist()
            assert [o["name"] for o in found.get_response()["outputs"]] == ["same", "sum"]


def test_health_metadata_and_the_repository_are_tritons(server):
    with triton_client(server) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.get_server_metadata()["name"] == "mme"
        assert not client.is_model_ready(TREES)
        assert client.get_model_repository_index() == []
        client.load_model(ONNX)
        assert client.is_model_ready(ONNX, "1")
        assert not server.state()["models"][0]["hits"]
        assert client.get_model_metadata(TREES) == {
            "name": TREES,
            "versions": ["1"],
            "platform": "xgboost",
            "inputs": [{"name": "input__0", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "output__0", "datatype": "FP32", "shape": [-1]}],
        }
        told = client.get_model_metadata(ONNX)
        assert [part["datatype"] for part in told["inputs"]] == ["FP32", "FP32", "BYTES"]
        assert told["outputs"][0] == {"name": "sum", "datatype": "FP32", "shape": [-1, 2]}
        index = client.get_model_repository_index()
        assert {entry["name"]: entry["state"] for entry in index} == {ONNX: "READY", TREES: "READY"}
        for _ in range(2):
            client.unload_model(ONNX)
            assert not client.is_model_ready(ONNX)


def test_plain_json_flat_or_nested_names_encoded_or_not(server):
    for path in ("tenants%2Fa.tar.gz", "tenants/a.tar.gz", "tenants/a.tar.gz/versions/1"):
        for data in (ROW, [ROW]):
            one = {"name": "x", "shape": [1, 4], "datatype": "FP64", "data": data}
            status, headers, body = call(server, f"/v2/models/{path}/infer", {"inputs": [one]})
            assert (status, headers["Content-Type"]) == (200, "application/json")
            [output] = json.loads(body)["outputs"]
            assert output["data"] == [booster(1).prediction]
            assert (output["datatype"], output["shape"]) == ("FP32", [1])


def test_raw_bodies_and_sagemakers_framing_are_read(server):
    row = struct.pack("<4f", *ROW)
    path = "/v2/models/tenants/a.tar.gz/infer"
    status, headers, body = call(server, path, row, Inference_Header_Content_Length="0")
    head = int(headers["Inference-Header-Content-Length"])
    assert status == 200
    assert struct.unpack("<f", body[head:]) == (booster(1).prediction,)
    one = {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    text = json.dumps({"inputs": [one], "parameters": {"binary_data_output": True}}).encode()
    framed = f"{SAGEMAKERS};json-header-size={len(text)}"
    status, headers, body = call(server, path, text + row, Content_Type=framed)
    assert status == 200
    assert headers["Content-Type"].startswith(f"{SAGEMAKERS};json-header-size=")
    assert struct.unpack("<f", body[-4:]) == (booster(1).prediction,)
    with runtime_client(server.url) as client:  # and the same through SageMaker's own route
        reply = client.invoke_endpoint(
            EndpointName="mme", TargetModel=TREES, Body=text + row, ContentType=framed
        )
        assert struct.unpack("<f", reply["Body"].read()[-4:]) == (booster(1).prediction,)


X = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ROW}
WRONG = {
    "no json": (TREES, b"{", 400),
    "no inputs": (TREES, b"{}", 400),
    "empty": (TREES, b"", 400),
    "shape": (TREES, {"inputs": [{**X, "shape": [2, 4]}]}, 400),
    "negative": (TREES, {"inputs": [{**X, "shape": [-1, -4]}]}, 400),
    "text": (TREES, {"inputs": [{**X, "data": ["1"] * 4}]}, 400),
    "half": (TREES, {"inputs": [{**X, "datatype": "FP16"}]}, 400),
    "kind": (TREES, {"inputs": [{**X, "datatype": "INT32"}]}, 400),
    "width": (TREES, {"inputs": [{**X, "shape": [2, 2]}]}, 400),
    "output": (TREES, {"inputs": [X], "outputs": [{"name": "other"}]}, 400),
    "twice": (TREES, {"inputs": [X, X]}, 400),
    "memory": (TREES, {"inputs": [{**X, "parameters": {"shared_memory_region": "r"}}]}, 400),
    "missing": ("nobody.tar.gz", {"inputs": [X]}, 404),
    "version": (f"{TREES}/versions/2", {"inputs": [X]}, 404),
    "hostile": ("..%2Fa", {"inputs": [X]}, 400),
    "corrupt": ("broken.tar.gz", {"inputs": [X]}, 500),
}


def test_what_is_wrong_is_told_in_the_protocols_shape(server):
    for why, (model, body, expected) in WRONG.items():
        status, headers, text = call(server, f"/v2/models/{model}/infer", body)
        assert (why, status, headers["Content-Type"]) == (why, expected, "application/json")
        assert json.loads(text).keys() == {"error"}
    status, _, text = call(server, "/v2/nothing")
    assert (status, [*json.loads(text)]) == (404, ["error"])
    path = f"/v2/models/{TREES}/infer"
    for length in ("99", "x", "-1"):
        status, _, text = call(server, path, b"{}", Inference_Header_Content_Length=length)
        assert (status, [*json.loads(text)]) == (400, ["error"])

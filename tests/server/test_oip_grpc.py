"""The Open Inference Protocol over gRPC, spoken by tritonclient and by nobody's client."""

from __future__ import annotations

import contextlib
import socket

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as pb

from mme.front.oip_messages import MESSAGES
from tests.engines import drop
from tests.models import ROW, booster
from tests.servers import serving
from tests.tensor_models import onnx_sum, torch_double

pytestmark = pytest.mark.timeout(90)
TREES, TORCH, ONNX = "tenants/a.tar.gz", "torch.tar.gz", "sum.tar.gz"


@pytest.fixture
def address(tmp_path):
    (tmp_path / "models").mkdir()
    drop(tmp_path / "models", TREES, booster(1).members)
    drop(tmp_path / "models", TORCH, {"model.pt": torch_double()})
    drop(tmp_path / "models", ONNX, {"model.onnx": onnx_sum()})
    drop(tmp_path / "models", "broken.tar.gz", {"model.onnx": b"no model"})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(tmp_path, tmp_path / "models", "--grpc-port", str(port)):
        yield f"127.0.0.1:{port}"


def test_tritonclient_and_typed_contents_are_answered_as_xgboost_answers(address):
    with contextlib.closing(triton.InferenceServerClient(address)) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.get_server_metadata().name == "mme"
        assert not client.is_model_ready(TREES)
        told = client.get_model_metadata(TREES)
        assert (told.platform, list(told.inputs[0].shape)) == ("xgboost", [-1, 4])
        assert client.is_model_ready(TREES, "1")
        row = np.array([ROW], dtype=np.float32)
        given = triton.InferInput("x", [1, 4], "FP32")
        given.set_data_from_numpy(row)
        found = client.infer(TREES, [given], request_id="r1")
        assert found.as_numpy("output__0").tolist() == [booster(1).prediction]
        assert found.get_response().id == "r1"
        index = client.get_model_repository_index().models
        assert [(entry.name, entry.state) for entry in index] == [(TREES, "READY")]
        client.unload_model(TREES)
        assert not client.is_model_ready(TREES)
        client.load_model(TREES)
        assert client.is_model_ready(TREES)
    with grpc.insecure_channel(address) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        request = pb.ModelInferRequest(model_name=TREES)
        part = request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        part.contents.fp32_contents.extend(ROW)
        response = pb.ModelInferResponse.FromString(infer(request.SerializeToString()))
        [raw] = response.raw_output_contents
        assert np.frombuffer(raw, "<f4").tolist() == [booster(1).prediction]


def tensor(name, array, datatype):
    given = triton.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array)
    return given


def test_torch_and_onnx_answer_what_they_compute_by_named_tensors_and_texts(address):
    left = np.array([[1, 2], [3, 4]], dtype=np.float32)
    words = np.array([b"one", b"two"], dtype=np.object_)
    with contextlib.closing(triton.InferenceServerClient(address)) as client:
        doubled = client.infer(TORCH, [tensor("x", left, "FP32")], client_timeout=60)
        name = doubled.get_response().outputs[0].name
        assert doubled.as_numpy(name).tolist() == (left * 2).tolist()
        inputs = [
            tensor("left", left, "FP32"),
            tensor("right", left * 10, "FP32"),
            tensor("word", words, "BYTES"),
        ]
        found = client.infer(ONNX, inputs, client_timeout=60)
        assert found.as_numpy("sum").tolist() == (left * 11).tolist()
        assert found.as_numpy("same").tolist() == [b"one", b"two"]
        only = client.infer(ONNX, inputs, outputs=[triton.InferRequestedOutput("sum")])
        assert only.as_numpy("same") is None


def test_what_is_wrong_has_its_status(address):
    status = grpc.StatusCode

    def asked(model, **more):
        request = pb.ModelInferRequest(model_name=model, **more)
        part = request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        part.contents.fp32_contents.extend(ROW)
        return request

    both = asked(TREES, raw_input_contents=[b"1234"])
    half = pb.ModelInferRequest(model_name=TREES)
    half.inputs.add(name="x", datatype="FP16", shape=[1, 4])
    cases = {
        "missing": (asked("nobody.tar.gz"), status.NOT_FOUND),
        "version": (asked(TREES, model_version="2"), status.NOT_FOUND),
        "hostile": (asked("../a"), status.INVALID_ARGUMENT),
        "nothing": (pb.ModelInferRequest(model_name=TREES), status.INVALID_ARGUMENT),
        "both": (both, status.INVALID_ARGUMENT),
        "half": (half, status.INVALID_ARGUMENT),
        "corrupt": (asked("broken.tar.gz"), status.INTERNAL),
    }
    with grpc.insecure_channel(address) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for why, (request, expected) in cases.items():
            with pytest.raises(grpc.RpcError) as refused:
                infer(request.SerializeToString())
            assert (why, refused.value.code()) == (why, expected)
        for garbage in (b"\xff\xff\xff", b"\x0a\x7f", b"\x00"):
            with pytest.raises(grpc.RpcError) as refused:
                infer(garbage)
            assert refused.value.code() is status.INVALID_ARGUMENT


SAME = (
    "ModelInferRequest",
    "ModelInferResponse",
    "InferTensorContents",
    "InferParameter",
    "ModelMetadataResponse",
    "ServerMetadataResponse",
    "RepositoryModelLoadRequest",
    "RepositoryModelUnloadRequest",
    "RepositoryIndexRequest",
    "ModelReadyRequest",
)


def test_the_messages_are_tritons_field_by_field():
    for name in SAME:
        assert fields(MESSAGES[name].DESCRIPTOR) == fields(getattr(pb, name).DESCRIPTOR)
    tensor = pb.ModelInferRequest.InferInputTensor.DESCRIPTOR
    assert fields(MESSAGES["InferTensor"].DESCRIPTOR) == fields(tensor)


def fields(descriptor):
    return [(field.name, field.number, field.type) for field in descriptor.fields]

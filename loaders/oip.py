"""The Open Inference Protocol's bodies <-> named arrays, in JSON and with binary tensors.

Decisions: a body is JSON, its length in the content type, and then the binary tensors, little
endian; so REST, gRPC and SageMaker's route have one reader. Values become what their datatype says
and never another value on the way. BYTES are texts where they are UTF-8, as models want them. The
only version of a model is "1". NaN and infinities, which JSON has not, are null in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np

from loaders.codecs import Array
from loaders.contract import (
    Answer,
    BadPayload,
    Model,
    ModelFault,
    Payload,
    read_and_run,
    settle,
)
from loaders.oip_values import read_binary, read_values, write_binary, write_values
from loaders.signatures import OIP_TYPE, TensorModel, Tensors, datatype_of

_HEADER_SIZE = re.compile(r";\s*json-header-size\s*=\s*\"?([0-9]{1,10})\"?\s*(?:;|\Z)")
_VERSION = "1"
_SHOWN = 200
_UNSUPPORTED = ("shared_memory_region", "classification", "sequence_id")


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: Any = None
    parameters: dict[str, Any] = {}


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    outputs: list[_Output] = []
    parameters: dict[str, Any] = {}


_Asked = tuple[_Request, dict[str, Array]]


def is_oip(payload: Payload) -> bool:
    """Whether a payload is a request of this protocol."""
    return payload.content_type is not None and payload.content_type.startswith(OIP_TYPE)


def predict_any(model: Model, name: str, payloads: Sequence[Payload]) -> list[Answer | ModelFault]:
    """Predicts a batch of which some are this protocol's, all of those together.

    Args:
        model: what is asked; one without `tensors` gets all payloads as they are.
        name: the model's, for the answers.
        payloads: in the order of the answers.
    """
    if not any(map(is_oip, payloads)) or not isinstance(model, TensorModel):
        return model.predict(payloads)  # nearly always: asking a protocol class is the dear part
    tensors, are = model.tensors, [is_oip(payload) for payload in payloads]
    others = [payload for payload, is_ours in zip(payloads, are, strict=True) if not is_ours]
    plain = iter(model.predict(others) if others else ())
    ours = iter(
        read_and_run(
            [payload for payload, is_ours in zip(payloads, are, strict=True) if is_ours],
            partial(_read_any, tensors),
            partial(_infer, tensors, name),
        )
    )
    return [next(ours if is_ours else plain) for is_ours in are]


def _infer(model: Tensors, name: str, asked: Sequence[_Asked]) -> list[Answer | ModelFault]:
    found = model.infer([feed for _request, feed in asked])
    return [
        one if isinstance(one, ModelFault) else settle(_write, one, request, name)
        for one, (request, _feed) in zip(found, asked, strict=True)
    ]


def _read_any(model: Tensors, payload: Payload) -> _Asked:
    match = _HEADER_SIZE.search(payload.content_type or "")
    if match is None or int(match[1]) > len(payload.body):
        raise BadPayload("The JSON header's length is missing, or more than the body has.")
    size = int(match[1])
    return _read(payload.body, size) if size else _read_raw(model, payload.body)


def _read(body: bytes, size: int) -> _Asked:
    try:
        request = msgspec.json.decode(body[:size], type=_Request)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise BadPayload(f"The request is not of the protocol's form: {str(exc)[:_SHOWN]}") from exc
    by_input = [tensor.parameters for tensor in request.inputs]
    by_output = [tensor.parameters for tensor in request.outputs]
    for given in (request.parameters, *by_input, *by_output):
        for name in _UNSUPPORTED:
            if given.get(name):
                raise BadPayload(f"The parameter {name} is not supported.")
    binary, feed = memoryview(body)[size:], {}
    for tensor in request.inputs:
        if tensor.name in feed:
            raise BadPayload(f"Input {tensor.name[:_SHOWN]} is given twice.")
        feed[tensor.name], binary = _tensor(tensor, binary)
    if len(binary):
        raise BadPayload(f"The body has {len(binary)} bytes more than its inputs.")
    return request, feed


def _tensor(tensor: _Input, binary: memoryview) -> tuple[Array, memoryview]:
    try:
        flat, rest = _values(tensor, binary)
    except (ValueError, TypeError, OverflowError, RecursionError) as exc:
        raise BadPayload(f"Input {tensor.name[:80]}: {str(exc)[:_SHOWN]}") from exc
    if min(tensor.shape, default=0) < 0 or math.prod(tensor.shape) != flat.size:
        shape = str(tensor.shape)[:80]
        raise BadPayload(f"Input {tensor.name[:80]}: {flat.size} values are not of shape {shape}.")
    try:
        return flat.reshape(tensor.shape), rest
    except ValueError as exc:  # more dimensions than an array may have
        raise BadPayload(f"Input {tensor.name[:80]}: {str(exc)[:_SHOWN]}") from exc


def _values(tensor: _Input, binary: memoryview) -> tuple[Array, memoryview]:
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        return read_values(tensor.data, tensor.datatype), binary
    if type(size) is not int or not 0 <= size <= len(binary) or tensor.data is not None:
        raise ValueError("binary_data_size is not what the body has")
    return read_binary(binary[:size], tensor.datatype), binary[size:]


def _read_raw(model: Tensors, body: bytes) -> _Asked:
    """A body that is nothing but the one tensor of a model that says of what shape it is."""
    inputs = model.signature().inputs
    if len(inputs) != 1 or inputs[0].shape.count(-1) > 1:
        raise BadPayload("A raw request is for models of one input with one free dimension.")
    try:
        values = read_binary(memoryview(body), inputs[0].datatype).reshape(inputs[0].shape)
    except ValueError as exc:
        raise BadPayload(f"The body is no {inputs[0].datatype} of {inputs[0].shape}.") from exc
    return _Request(inputs=[], parameters={"binary_data_output": True}), {inputs[0].name: values}


def _write(found: Mapping[str, Any], request: _Request, name: str) -> Answer:
    asked = request.outputs or [_Output(name=output) for output in found]
    tensors, parts = [], []
    for output in asked:
        if output.name not in found:
            known = ", ".join(found)[:_SHOWN]
            raise BadPayload(f"There is no output {output.name[:80]}: the model gives {known}.")
        array = np.asarray(found[output.name])
        by_default = request.parameters.get("binary_data_output", False)
        tensor: dict[str, Any] = {"name": output.name, "datatype": datatype_of(array.dtype)}
        tensor["shape"] = list(array.shape)
        if output.parameters.get("binary_data", by_default):
            parts.append(write_binary(array))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = write_values(array)
        tensors.append(tensor)
    told = {"model_name": name, "model_version": _VERSION, "outputs": tensors}
    head = msgspec.json.encode(told if request.id is None else {**told, "id": request.id})
    kind = f"{OIP_TYPE};json-header-size={len(head)}" if parts else "application/json"
    return Answer(b"".join([head, *parts]), kind)

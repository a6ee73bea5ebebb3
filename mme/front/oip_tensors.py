"""Pure: an inference in gRPC's messages <-> the body that REST has, with binary tensors only.

Decision: typed contents become bytes here, so that the workers have one reader.
"""

from __future__ import annotations

import re
import sys
from array import array
from typing import Any

import msgspec

from mme.domain import Reply
from mme.errors import InvalidRequest, PredictionFailed
from mme.front.oip_messages import MESSAGES
from mme.front.oip_wire import OIP_TYPE

_HEADER_SIZE = re.compile(r";json-header-size=([0-9]+)\Z")
_CONTENTS = {  # datatype -> the field that holds it, and array's code for it
    "INT8": ("int_contents", "b"),
    "INT16": ("int_contents", "h"),
    "INT32": ("int_contents", "i"),
    "INT64": ("int64_contents", "q"),
    "UINT8": ("uint_contents", "B"),
    "UINT16": ("uint_contents", "H"),
    "UINT32": ("uint_contents", "I"),
    "UINT64": ("uint64_contents", "Q"),
    "FP32": ("fp32_contents", "f"),
    "FP64": ("fp64_contents", "d"),
    "BOOL": ("bool_contents", "B"),
}


def write_body(request: Any) -> tuple[bytes, str]:  # noqa: ANN401 - of no static type
    """A ModelInferRequest as REST's body and its content type. Raises InvalidRequest."""
    raw = list(request.raw_input_contents)
    if raw and (
        len(raw) != len(request.inputs) or any(item.HasField("contents") for item in request.inputs)
    ):
        raise InvalidRequest("raw_input_contents must hold each input, and contents none.")
    parts = raw or [_bytes_of(item) for item in request.inputs]
    inputs = [
        {
            "name": item.name,
            "datatype": item.datatype,
            "shape": list(item.shape),
            "parameters": {**_parameters(item), "binary_data_size": len(part)},
        }
        for item, part in zip(request.inputs, parts, strict=True)
    ]
    outputs = [{"name": item.name, "parameters": _parameters(item)} for item in request.outputs]
    document = {
        "id": request.id,
        "inputs": inputs,
        "outputs": outputs,
        "parameters": {**_parameters(request), "binary_data_output": True},
    }
    head = msgspec.json.encode(document)
    return b"".join([head, *parts]), f"{OIP_TYPE};json-header-size={len(head)}"


def read_reply(reply: Reply) -> Any:  # noqa: ANN401 - of no static type
    """A ModelInferResponse out of REST's answer.

    Raises:
        PredictionFailed: it is none: a script's, that speaks something else.
    """
    framed = _HEADER_SIZE.search(reply.content_type)
    if framed is None:
        raise PredictionFailed("The model's answer is not one of tensors.")
    start = int(framed[1])
    told = msgspec.json.decode(reply.body[:start])
    response = MESSAGES["ModelInferResponse"](
        model_name=told["model_name"], model_version=told["model_version"], id=told.get("id", "")
    )
    for item in told["outputs"]:
        response.outputs.add(name=item["name"], datatype=item["datatype"], shape=item["shape"])
        end = start + item["parameters"]["binary_data_size"]
        response.raw_output_contents.append(reply.body[start:end])
        start = end
    return response


def _parameters(message: Any) -> dict[str, Any]:  # noqa: ANN401 - of no static type
    found = {}
    for name, value in message.parameters.items():
        field = value.WhichOneof("choice")
        if field is not None and name not in {"binary_data_size", "binary_data"}:
            found[name] = getattr(value, field)
    return found


def _bytes_of(item: Any) -> bytes:  # noqa: ANN401 - of no static type
    if item.datatype == "BYTES":
        cells = item.contents.bytes_contents
        return b"".join(len(cell).to_bytes(4, "little") + cell for cell in cells)
    if item.datatype not in _CONTENTS:
        raise InvalidRequest(f"Input {item.name[:80]}: {item.datatype[:40]} must be raw.")
    field, code = _CONTENTS[item.datatype]
    try:
        values = array(code, getattr(item.contents, field))
    except OverflowError as error:
        raise InvalidRequest(f"Input {item.name[:80]}: no {item.datatype}.") from error
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()

"""The messages of inference.GRPCInferenceService, from one table in place of generated code.

Decision: they live in a pool of their own, so that tritonclient, which registers the same names
with protobuf, works in the same process; and any protobuf release will do, as no generator's
version is written into a file.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "inference"
_TENSOR = "name:1:string datatype:2:string shape:3:int64[]"
_TABLE = {  # name:number:type; [] repeats, {} is a map from text, ? is one of those in the message
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:1:bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:1:bool",
    "ModelReadyRequest": "name:1:string version:2:string",
    "ModelReadyResponse": "ready:1:bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:1:string version:2:string extensions:3:string[]",
    "ModelMetadataRequest": "name:1:string version:2:string",
    "TensorMetadata": _TENSOR,
    "ModelMetadataResponse": "name:1:string versions:2:string[] platform:3:string "
    "inputs:4:TensorMetadata[] outputs:5:TensorMetadata[]",
    "InferParameter": "bool_param:1:bool? int64_param:2:int64? string_param:3:string? "
    "double_param:4:double? uint64_param:5:uint64?",
    "InferTensorContents": "bool_contents:1:bool[] int_contents:2:int32[] "
    "int64_contents:3:int64[] uint_contents:4:uint32[] uint64_contents:5:uint64[] "
    "fp32_contents:6:float[] fp64_contents:7:double[] bytes_contents:8:bytes[]",
    "InferTensor": f"{_TENSOR} parameters:4:InferParameter{{}} contents:5:InferTensorContents",
    "InferRequestedOutput": "name:1:string parameters:2:InferParameter{}",
    "ModelInferRequest": "model_name:1:string model_version:2:string id:3:string "
    "parameters:4:InferParameter{} inputs:5:InferTensor[] outputs:6:InferRequestedOutput[] "
    "raw_input_contents:7:bytes[]",
    "ModelInferResponse": "model_name:1:string model_version:2:string id:3:string "
    "parameters:4:InferParameter{} outputs:5:InferTensor[] raw_output_contents:6:bytes[]",
    "RepositoryIndexRequest": "repository_name:1:string ready:2:bool",
    "ModelIndex": "name:1:string version:2:string state:3:string reason:4:string",
    "RepositoryIndexResponse": "models:1:ModelIndex[]",
    "ModelRepositoryParameter": "bool_param:1:bool? int64_param:2:int64? string_param:3:string? "
    "bytes_param:4:bytes?",
    "RepositoryModelLoadRequest": "repository_name:1:string model_name:2:string "
    "parameters:3:ModelRepositoryParameter{}",
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": "repository_name:1:string model_name:2:string "
    "parameters:3:ModelRepositoryParameter{}",
    "RepositoryModelUnloadResponse": "",
}
_Field = descriptor_pb2.FieldDescriptorProto


def _file() -> Any:  # noqa: ANN401 - untyped
    file = descriptor_pb2.FileDescriptorProto(name="oip.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _TABLE.items():
        message = file.message_type.add(name=name)
        for text in fields.split():
            _add_field(message, *text.split(":"))
    return file


def _add_field(message: Any, name: str, number: str, kind: str) -> None:  # noqa: ANN401 - untyped
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if kind.endswith("{}"):
        _add_map(message, field, kind[:-2])
        return
    if kind.endswith("[]"):
        field.label = _Field.LABEL_REPEATED
    if kind.endswith("?"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="choice")
        field.oneof_index = 0
    _set_type(field, kind.rstrip("[]?"))


def _add_map(message: Any, field: Any, kind: str) -> None:  # noqa: ANN401 - untyped
    entry = message.nested_type.add(name=f"{field.name.capitalize()}Entry")
    entry.options.map_entry = True
    _add_field(entry, "key", "1", "string")
    _add_field(entry, "value", "2", kind)
    field.label = _Field.LABEL_REPEATED
    _set_type(field, f"{message.name}.{entry.name}")


def _set_type(field: Any, kind: str) -> None:  # noqa: ANN401 - untyped
    if kind[0].isupper():
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())
MESSAGES: dict[str, Any] = {
    name: message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
    for name in _TABLE
}
"""Name -> message class, e.g. MESSAGES["ModelInferRequest"]."""

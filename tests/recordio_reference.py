"""SageMaker's records as Google's own protobuf reads and writes them: the reference for ours."""

from __future__ import annotations

import struct
from functools import cache
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

MAGIC = 0xCED7230A


@cache
def record_class(*, packed: bool = True) -> Any:
    """The class of aialgs.data.Record, with repeated numbers packed (as published) or not."""
    file = FileDescriptorProto(name="record.proto", package="aialgs.data", syntax="proto2")
    value = file.message_type.add(name="Value")
    value.oneof_decl.add(name="value")
    for number, kind in ((2, "float32"), (3, "float64"), (7, "int32")):
        tensor = file.message_type.add(name=kind.capitalize())
        scalar = {"float32": Field.TYPE_FLOAT, "float64": Field.TYPE_DOUBLE}.get(
            kind, Field.TYPE_INT32
        )
        for place, (name, form) in enumerate(
            (("values", scalar), ("keys", Field.TYPE_UINT64), ("shape", Field.TYPE_UINT64)), 1
        ):
            field = tensor.field.add(name=name, number=place, type=form, label=3)
            field.options.packed = packed
        value.field.add(
            name=f"{kind}_tensor",
            number=number,
            type=Field.TYPE_MESSAGE,
            type_name=f".aialgs.data.{tensor.name}",
            label=1,
            oneof_index=0,
        )
    record = file.message_type.add(name="Record")
    for number, name in ((1, "features"), (2, "label")):
        entry = record.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=Field.TYPE_STRING, label=1)
        entry.field.add(
            name="value",
            number=2,
            type=Field.TYPE_MESSAGE,
            type_name=".aialgs.data.Value",
            label=1,
        )
        record.field.add(
            name=name,
            number=number,
            type=Field.TYPE_MESSAGE,
            type_name=f".aialgs.data.Record.{entry.name}",
            label=3,
        )
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("aialgs.data.Record"))


def framed(*records: bytes) -> bytes:
    return b"".join(
        struct.pack("<II", MAGIC, len(record)) + record + bytes(-len(record) % 4)
        for record in records
    )


def write_record(
    values: list[float], kind: str = "float32", *, packed: bool = True, **more
) -> bytes:
    """One record with the features "values"; `more` are the tensor's keys and shape."""
    record = record_class(packed=packed)()
    tensor = getattr(record.features["values"], f"{kind}_tensor")
    tensor.values.extend(values)
    for name, numbers in more.items():
        getattr(tensor, name).extend(numbers)
    record.label["values"].float32_tensor.values.append(1.0)
    return record.SerializeToString()


def read_labels(body: bytes) -> list[dict[str, list[float]]]:
    """What a client finds in an answer: a mapping from label to numbers for every record."""
    found = []
    while body:
        magic, length = struct.unpack_from("<II", body)
        assert magic == MAGIC
        record = record_class().FromString(body[8 : 8 + length])
        body = body[8 + length + -length % 4 :]
        labels = {}
        for name, value in record.label.items():
            tensor = getattr(value, value.WhichOneof("value"))
            labels[name] = list(tensor.values)
        found.append(labels)
    return found

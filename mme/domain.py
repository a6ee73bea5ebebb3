"""The frozen nouns between rooms: what was asked, which bytes answer it, what came back.

Decision: those made for every request are msgspec's structs: a frozen dataclass of ten fields takes
ten calls to be made, 2 us, and a struct 0.3. Their `replace` is in `msgspec.structs`.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import NewType, TypeAlias

from msgspec import Struct

ModelKey = NewType("ModelKey", str)
"""A target model as the store names it: relative, no leading slash, found harmless."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactVersion:
    """One content of one object: a new ETag under the same key is another version."""

    location: str  # the store it lies in, e.g. s3://bucket/prefix/
    key: ModelKey
    etag: str  # opaque, as the store gives it, without quotes
    size_bytes: int  # of the object as stored, compressed
    digest: str = field(init=False)  # names directories and models; never a client's string

    def __post_init__(self) -> None:
        identity = "\0".join((self.location, self.key, self.etag))
        object.__setattr__(self, "digest", hashlib.sha256(identity.encode()).hexdigest())


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """One input or output of a model, in the words of the Open Inference Protocol."""

    name: str
    datatype: str  # e.g. FP32
    shape: tuple[int, ...]  # -1: any size


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """A model's inputs and outputs, as far as it knows them."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class BodyStream:
    """A body that is still arriving from another container.

    Iterating `chunks`, once, raises ModelError when the rest does not come.
    """

    chunks: AsyncIterator[bytes]
    length_bytes: int | None  # as announced; None: nobody said

    async def read(self) -> bytes:
        """All of it. Raises ModelError."""
        return b"".join([chunk async for chunk in self.chunks])


Body: TypeAlias = bytes | BodyStream


class Invocation(Struct, frozen=True, kw_only=True):
    """One request as the engine sees it, whatever dialect it arrived in."""

    request_id: str
    endpoint: str
    body: Body  # a stream only between the containers of a pipeline
    deadline: float  # on the event loop's monotonic clock, in seconds
    content_type: str | None = None
    accept: str | None = None
    custom_attributes: str | None = None
    target_model: ModelKey | None = None
    target_variant: str | None = None
    target_container: str | None = None
    inference_id: str | None = None
    session_id: str | None = None
    trace_parent: str | None = None  # W3C's, as it came
    trace_state: str | None = None  # what came with it
    api_key: str | None = None  # the name of the key that asks; None: nobody is asked who they are


class Timings(Struct, frozen=True, kw_only=True):
    """Where a request's time went, in seconds."""

    load_seconds: float = 0.0  # waiting for the model to be in memory; 0 on a hit
    queue_seconds: float = 0.0  # waiting for its worker
    predict_seconds: float = 0.0  # the batch it ran in, inside the worker, or a sibling's answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Hop:
    """What one container of several took for its part of an answer."""

    container: str
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Handover:
    """What a container answered, for the next one: its body may still be arriving."""

    body: Body
    content_type: str
    custom_attributes: str | None = None
    timings: Timings = field(default_factory=Timings)  # until here


class Reply(Struct, frozen=True, kw_only=True):
    """What a container answered."""

    body: bytes
    content_type: str
    variant: str = ""
    custom_attributes: str | None = None
    cache_hit: bool | None = None  # None where no model cache was asked
    version: str | None = None  # the store's name for the content that answered
    timings: Timings = Timings()
    hops: tuple[Hop, ...] = ()  # of an endpoint with several containers, in the order of the calls

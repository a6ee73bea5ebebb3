"""The Open Inference Protocol v2 over gRPC: inference.GRPCInferenceService.

Decision: what REST decides holds here too; a request becomes REST's body, so that there is one
reader of tensors. Bytes are parsed in the call and not by gRPC, which would call garbage an
internal error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError

from mme import logs
from mme.config import ServerConfig
from mme.domain import Invocation
from mme.errors import ConfigError, InvalidRequest, ModelMissing
from mme.front.exchange import Service
from mme.front.oip_api import EXTENSIONS, Repository
from mme.front.oip_messages import MESSAGES
from mme.front.oip_tensors import read_reply, write_body
from mme.front.oip_wire import (
    check_load,
    check_version,
    index_entry,
    message_of,
    metadata,
    status_of,
)
from mme.front.wire import format_request_id, read_target_model

_SERVICE = "inference.GRPCInferenceService"
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_Message = Any  # its classes are made at run time


class OipGrpc:
    """One listening port."""

    def __init__(self, service: Service, server: ServerConfig, repository: Repository) -> None:
        self._service = service
        self._config = server
        self._repository = repository

    async def start(self) -> None:
        """Listens. Raises ConfigError where the address can't be had."""
        limit_bytes = self._config.body_limit_bytes
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", limit_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ]
        )
        calls = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ServerMetadata": self._describe_server,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._describe_model,
            "ModelInfer": self._infer,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(_call(MESSAGES[f"{name}Request"], act))
            for name, act in calls.items()
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, handlers),)
        )
        address = f"{self._config.host}:{self._config.grpc_port}"
        try:
            self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigError(f"grpc_port: cannot listen on {address}") from error
        await self._server.start()

    async def drain(self) -> None:
        """No new calls; those in flight have the drain time, and are then cancelled."""
        await self._server.stop(self._config.drain_seconds)

    async def _live(self, _: _Message, __: float | None) -> _Message:
        return MESSAGES["ServerLiveResponse"](live=True)

    async def _ready(self, _: _Message, __: float | None) -> _Message:
        return MESSAGES["ServerReadyResponse"](ready=not self._service.readiness())

    async def _describe_server(self, _: _Message, __: float | None) -> _Message:
        return MESSAGES["ServerMetadataResponse"](
            name="mme", version=version("mme"), extensions=EXTENSIONS
        )

    async def _model_ready(self, request: _Message, _: float | None) -> _Message:
        key = read_target_model(request.name)
        check_version(key, request.version)
        response = MESSAGES["ModelReadyResponse"]()
        with contextlib.suppress(ModelMissing):
            self._repository.describe(key)
            response.ready = True
        return response

    async def _describe_model(self, request: _Message, _: float | None) -> _Message:
        key = read_target_model(request.name)
        check_version(key, request.version)
        told = metadata(key, await self._repository.load(key))
        return MESSAGES["ModelMetadataResponse"](**told)

    async def _infer(self, request: _Message, remaining_seconds: float | None) -> _Message:
        key = read_target_model(request.model_name)
        check_version(key, request.model_version)
        body, content_type = write_body(request)
        limit_seconds = self._config.invocation_seconds
        if remaining_seconds is not None:
            limit_seconds = min(limit_seconds, max(0.0, remaining_seconds))
        invocation = Invocation(
            request_id=format_request_id(os.urandom(16)),
            endpoint=self._config.endpoint_name,
            body=body,
            deadline=asyncio.get_running_loop().time() + limit_seconds,
            content_type=content_type,
            target_model=key,
        )
        return read_reply(await self._service.invoke(invocation))

    async def _index(self, _: _Message, __: float | None) -> _Message:
        models = [index_entry(name) for name in self._repository.describe_all()]
        return MESSAGES["RepositoryIndexResponse"](models=models)

    async def _load(self, request: _Message, _: float | None) -> _Message:
        check_load(request.parameters)
        await self._repository.load(read_target_model(request.model_name))
        return MESSAGES["RepositoryModelLoadResponse"]()

    async def _unload(self, request: _Message, _: float | None) -> _Message:
        with contextlib.suppress(ModelMissing):
            await self._repository.unload(read_target_model(request.model_name))
        return MESSAGES["RepositoryModelUnloadResponse"]()


def _call(
    kind: _Message, act: Callable[[_Message, float | None], Awaitable[_Message]]
) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def call(data: bytes, context: Any) -> bytes:  # noqa: ANN401 - grpc has no types
        try:
            response = await act(_parse(kind, data), context.time_remaining())
            return bytes(response.SerializeToString())
        except Exception as error:
            code = _CODES.get(status_of(error), grpc.StatusCode.INTERNAL)
            if code is grpc.StatusCode.INTERNAL:
                structlog.get_logger().error(logs.INTERNAL_ERROR, exc_info=error)
            await context.abort(code, message_of(error))
            raise

    return call


def _parse(kind: _Message, data: bytes) -> _Message:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InvalidRequest("The request is no message of this call.") from error

"""The Open Inference Protocol v2 over gRPC: inference.GRPCInferenceService.

Decision: what REST decides holds here too; a request becomes REST's body, so that there is one
reader of tensors. Bytes are parsed in the call and not by gRPC, which would call garbage an
internal error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from mme.config import ServerConfig
from mme.domain import Invocation
from mme.errors import ConfigError, InvalidRequest, MmeError, ModelMissing
from mme.front.access import Action, Caller
from mme.front.credentials import KeyFile
from mme.front.exchange import Service
from mme.front.gate import Gate
from mme.front.grpc_call import Call, Operation
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
from mme.front.record import CLIENT_GONE_STATUS, Recorder
from mme.front.tls import Tls
from mme.front.watch import Watch
from mme.front.wire import REQUEST_ID, format_request_id
from mme.tracing import Tracing

_SERVICE = "inference.GRPCInferenceService"
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_OK = 200
_Message = Any  # its classes are made at run time


_Act = Callable[[_Message, Call], Awaitable[_Message]]


class OipGrpc:
    """One listening port.

    Args:
        service: what is served.
        server: where to listen and what to let in.
        repository: the models in memory.
        recorder: told of each call.
        keys: who may ask for what; None: nobody is asked who they are.
        tls: None: plain.
        tracing: None: no call is traced. Closed by whoever made it.
    """

    def __init__(  # noqa: PLR0913 - what it is made of
        self,
        service: Service,
        server: ServerConfig,
        repository: Repository,
        *,
        recorder: Recorder,
        keys: KeyFile | None = None,
        tls: Tls | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._service = service
        self._recorder = recorder
        self._tracing = tracing
        self._gate = Gate(keys, server) if keys is not None else None
        self._tls = tls
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
        calls: dict[str, tuple[_Act, Action]] = {
            "ServerLive": (self._live, Action.OPEN),
            "ServerReady": (self._ready, Action.OPEN),
            "ServerMetadata": (self._describe_server, Action.INVOKE),
            "ModelReady": (self._model_ready, Action.INVOKE),
            "ModelMetadata": (self._describe_model, Action.INVOKE),
            "ModelInfer": (self._infer, Action.INVOKE),
            "RepositoryIndex": (self._index, Action.LOAD),
            "RepositoryModelLoad": (self._load, Action.LOAD),
            "RepositoryModelUnload": (self._unload, Action.ADMIN),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._call(name, act, action))
            for name, (act, action) in calls.items()
            if self._config.admin_port is None or not action.manages
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, handlers),)
        )
        address = f"{self._config.host}:{self._config.grpc_port}"
        try:
            if self._tls is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, _credentials(self._tls))
        except RuntimeError as error:
            raise ConfigError(f"grpc_port: cannot listen on {address}") from error
        await self._server.start()

    async def drain(self) -> None:
        """No new calls; those in flight have the drain time, and are then cancelled."""
        await self._server.stop(self._config.drain_seconds)

    async def _live(self, _: _Message, __: Call) -> _Message:
        return MESSAGES["ServerLiveResponse"](live=True)

    async def _ready(self, _: _Message, __: Call) -> _Message:
        return MESSAGES["ServerReadyResponse"](ready=not self._service.readiness())

    async def _describe_server(self, _: _Message, __: Call) -> _Message:
        return MESSAGES["ServerMetadataResponse"](
            name="mme", version=version("mme"), extensions=EXTENSIONS
        )

    async def _model_ready(self, request: _Message, call: Call) -> _Message:
        key = call.may_use(request.name)
        check_version(key, request.version)
        response = MESSAGES["ModelReadyResponse"]()
        with contextlib.suppress(ModelMissing):
            self._repository.describe(key)
            response.ready = True
        return response

    async def _describe_model(self, request: _Message, call: Call) -> _Message:
        key = call.may_use(request.name)
        check_version(key, request.version)
        told = metadata(key, await self._repository.load(key))
        return MESSAGES["ModelMetadataResponse"](**told)

    async def _infer(self, request: _Message, call: Call) -> _Message:
        key = call.may_use(request.model_name)
        check_version(key, request.model_version)
        body, content_type = write_body(request)
        limit_seconds = self._config.invocation_seconds
        if call.remaining_seconds is not None:
            limit_seconds = min(limit_seconds, max(0.0, call.remaining_seconds))
        invocation = Invocation(
            request_id=call.request_id,
            endpoint=self._config.endpoint_name,
            body=body,
            deadline=asyncio.get_running_loop().time() + limit_seconds,
            content_type=content_type,
            target_model=key,
        )
        call.reply = await self._service.invoke(call.admit(invocation))
        return read_reply(call.reply)

    async def _index(self, _: _Message, call: Call) -> _Message:
        models = [index_entry(name) for name in self._repository.names() if call.sees(name)]
        return MESSAGES["RepositoryIndexResponse"](models=models)

    async def _load(self, request: _Message, call: Call) -> _Message:
        check_load(request.parameters)
        await self._repository.load(call.may_use(request.model_name))
        return MESSAGES["RepositoryModelLoadResponse"]()

    async def _unload(self, request: _Message, call: Call) -> _Message:
        with contextlib.suppress(ModelMissing):
            await self._repository.unload(call.may_use(request.model_name))
        return MESSAGES["RepositoryModelUnloadResponse"]()

    def _call(
        self, method: str, act: _Act, action: Action
    ) -> Callable[[bytes, Any], Awaitable[bytes]]:
        kind = MESSAGES[f"{method}Request"]
        operation = Operation(f"grpc_{method}", act == self._infer)

        async def answer(data: bytes, context: Any) -> bytes:  # noqa: ANN401 - grpc has no types
            call = self._begin(method, data, context)
            status = _OK
            failure: BaseException | None = None
            try:
                call.caller = self._caller(context, action)
                response = await act(_parse(kind, data), call)
                return bytes(response.SerializeToString())
            except asyncio.CancelledError as gone:
                status, failure = CLIENT_GONE_STATUS, gone
                call.code = grpc.StatusCode.CANCELLED.value[0]
                raise
            except Exception as error:
                status, failure = status_of(error), error
                code = _CODES.get(status, grpc.StatusCode.INTERNAL)
                call.code = code.value[0]
                if not isinstance(error, MmeError):
                    self._recorder.internal_error(call, error)
                await context.abort(code, message_of(error))
                raise
            finally:
                self._recorder.answered(operation, status, call, failure)

        return answer

    def _begin(self, method: str, data: bytes, context: Any) -> Call:  # noqa: ANN401
        request_id, traced = format_request_id(os.urandom(16)), None
        if self._tracing is not None:
            headers = dict(context.invocation_metadata())
            traced = self._tracing.begin(f"{_SERVICE}/{method}", headers)
        context.set_trailing_metadata(((REQUEST_ID.lower(), request_id),))
        return Call(
            method=method,
            request_id=request_id,
            endpoint=self._config.endpoint_name,
            started=time.perf_counter(),
            remaining_seconds=context.time_remaining(),
            body=data,
            traced=traced,
        )

    def _caller(self, context: Any, action: Action) -> Caller | None:  # noqa: ANN401
        if self._gate is None or action is Action.OPEN:
            return None
        return self._gate.admit_bearer(_bearer(context), action)


def _bearer(context: Any) -> str:  # noqa: ANN401 - grpc has no types
    values = [value for name, value in context.invocation_metadata() if name == "authorization"]
    return values[0] if len(values) == 1 else ""


def _credentials(tls: Tls) -> Any:  # noqa: ANN401
    """The certificate as it is on disk, for each new connection."""

    def read() -> Any:  # noqa: ANN401
        pair = (Path(tls.key).read_bytes(), Path(tls.cert).read_bytes())
        root = Path(tls.client_ca).read_bytes() if tls.client_ca is not None else None
        return grpc.ssl_server_certificate_configuration([pair], root)

    watch = Watch([tls.cert, tls.key])
    return grpc.dynamic_ssl_server_credentials(
        read(), lambda: read() if watch.changed() else None, tls.client_ca is not None
    )


def _parse(kind: _Message, data: bytes) -> _Message:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InvalidRequest("The request is no message of this call.") from error

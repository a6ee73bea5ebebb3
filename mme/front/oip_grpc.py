"""The Open Inference Protocol v2 over gRPC: inference.GRPCInferenceService.

Decision: what REST decides holds here too; a request becomes REST's body, so that there is one
reader of tensors. Bytes are parsed in the call and not by gRPC, which would call garbage an
internal error; and received there, once it is known who asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError

from mme.config import ServerConfig
from mme.domain import Invocation
from mme.errors import InvalidRequest, MmeError, ModelMissing
from mme.front.access import Action, Caller
from mme.front.bodies import Bodies
from mme.front.credentials import KeyFile
from mme.front.exchange import Service
from mme.front.gate import Gate
from mme.front.grpc_bodies import GrpcBodies
from mme.front.grpc_call import Call, Operation
from mme.front.grpc_peers import Untaken, site_of_peer
from mme.front.grpc_port import open_port
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
from mme.front.shares import Shares
from mme.front.tls import Tls
from mme.front.wire import REQUEST_ID, format_request_id
from mme.tracing import Tracing

_SERVICE = "inference.GRPCInferenceService"
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_OK = 200
_Message = Any  # its classes are made at run time


_Act = Callable[[_Message, Call], Awaitable[_Message]]
_Answer = Callable[[object, Any], Awaitable[bytes]]
_Refusal = tuple[grpc.StatusCode, str]


class _Method(NamedTuple):
    name: str
    request: _Message
    act: _Act
    action: Action
    operation: Operation


class OipGrpc:
    """One listening port.

    Args:
        service: what is served.
        server: where to listen and what to let in.
        repository: the models in memory.
        bodies: all that are here, of other ports, too.
        calls: at once, at most.
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
        bodies: Bodies,
        calls: int,
        recorder: Recorder,
        keys: KeyFile | None = None,
        tls: Tls | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._service = service
        self._bodies = GrpcBodies(server, bodies)
        self._calls = Shares(calls, "Too many calls at once; try again.")
        self._untaken = Untaken(server.grpc_port, server.body_seconds)
        self._recorder = recorder
        self._tracing = tracing
        self._gate = Gate(keys, server) if keys is not None else None
        self._tls = tls
        self._config = server
        self._repository = repository

    async def start(self) -> None:
        """Listens. Raises ConfigError where the address can't be had."""
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
            name: grpc.stream_unary_rpc_method_handler(self._call(name, act, action))
            for name, (act, action) in calls.items()
            if self._config.admin_port is None or not action.manages
        }
        self._server = open_port(self._config, self._tls)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, handlers),)
        )
        await self._server.start()
        self._watch = asyncio.create_task(self._untaken.watch(), name="untaken answers")

    async def drain(self) -> None:
        """No new calls; those in flight have the drain time, and are then cancelled."""
        try:
            await self._server.stop(self._config.drain_seconds)
        finally:
            self._watch.cancel()
            await asyncio.wait([self._watch])

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

    def _call(self, name: str, act: _Act, action: Action) -> _Answer:
        operation = Operation(f"grpc_{name}", act == self._infer)
        method = _Method(name, MESSAGES[f"{name}Request"], act, action, operation)

        async def answer(_: object, context: Any) -> bytes:  # noqa: ANN401 - grpc has no types
            answered = await self._answer(method, context)
            self._untaken.add(context)
            if isinstance(answered, bytes):
                return answered
            # What it raises is in a cycle with this frame: nothing large may be in sight of it.
            return bytes(await context.abort(*answered))

        return answer

    async def _answer(self, method: _Method, context: Any) -> bytes | _Refusal:  # noqa: ANN401
        call = self._begin(method.name, context)
        status = _OK
        failure: BaseException | None = None
        try:
            call.caller = self._caller(context, method.action)
            who = call.who = _name(call.caller, context)
            self._calls.hold(1, who)
            context.add_done_callback(lambda _: self._calls.drop(1, who))
            if method.action is not Action.OPEN:  # those say nothing, and anyone may send them
                call.body = await self._bodies.receive(context, who)
            response = await method.act(_parse(method.request, call.body), call)
            return self._bodies.send(bytes(response.SerializeToString()), context, who)
        except asyncio.CancelledError as gone:
            status, failure = CLIENT_GONE_STATUS, gone
            call.code = grpc.StatusCode.CANCELLED.value[0]
            raise
        except Exception as error:  # noqa: BLE001 - the door: a client gets an answer, whatever broke
            status, failure = status_of(error), error
            code = _CODES.get(status, grpc.StatusCode.INTERNAL)
            call.code = code.value[0]
            if not isinstance(error, MmeError):
                self._recorder.internal_error(call, error)
            return code, message_of(error)
        finally:
            self._bodies.drop(call.body, call.who)
            self._recorder.answered(method.operation, status, call, failure)
            failure = None  # it holds this frame, and so the body, until the collector comes

    def _begin(self, method: str, context: Any) -> Call:  # noqa: ANN401
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
            traced=traced,
        )

    def _caller(self, context: Any, action: Action) -> Caller | None:  # noqa: ANN401
        if self._gate is None or action is Action.OPEN:
            return None
        return self._gate.admit_bearer(_bearer(context), action)


def _name(caller: Caller | None, context: Any) -> str:  # noqa: ANN401 - grpc has no types
    """Whose places and turns a call takes: its key's, which nobody else has."""
    return site_of_peer(context.peer()) if caller is None else f"key {caller.grant.name}"


def _bearer(context: Any) -> str:  # noqa: ANN401 - grpc has no types
    values = [value for name, value in context.invocation_metadata() if name == "authorization"]
    return values[0] if len(values) == 1 else ""


def _parse(kind: _Message, data: bytes) -> _Message:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InvalidRequest("The request is no message of this call.") from error

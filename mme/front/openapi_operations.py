"""What the OpenAPI document says of each route, by the route's name."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from mme.front.openapi_schemas import ANYTHING


class Operation(Struct, frozen=True):
    """What is said of one route.

    `body` and `answer` name a schema, or are ANYTHING, or None for nothing.
    """

    tag: str
    summary: str
    body: str | None = None
    answer: str | None = None
    error: str = "Error"  # the schema of a refusal
    headers: tuple[str, ...] = ()  # of the request
    query: Mapping[str, str] = {}


_INVOKE = (
    "X-Amzn-SageMaker-Target-Model", "X-Amzn-SageMaker-Target-Container-Hostname",
    "X-Amzn-SageMaker-Target-Variant", "X-Amzn-SageMaker-Custom-Attributes",
    "X-Amzn-SageMaker-Inference-Id", "X-Amzn-SageMaker-Session-Id",
)  # fmt: skip
_PAGES = {"limit": "How many at most.", "next_page_token": "Of the page before."}
_RUNTIME, _MODELS, _OIP, _OPS, _CONSOLE = (
    "SageMaker runtime",
    "Models",
    "OIP",
    "Operators",
    "Console",
)

# a table: one route a line
# fmt: off
OPERATIONS: Mapping[str, Operation] = {
    "endpoint_invocations": Operation(_RUNTIME, "InvokeEndpoint: asks a model.", ANYTHING, ANYTHING, headers=_INVOKE),
    "invocations": Operation(_RUNTIME, "The same for the server's only endpoint, as a container has it.", ANYTHING, ANYTHING, headers=_INVOKE),
    "InvokeEndpointAsync": Operation(_RUNTIME, "Refused: there is no asynchronous inference here.", ANYTHING, "Error"),
    "InvokeEndpointWithResponseStream": Operation(_RUNTIME, "Refused: answers are not streamed here.", ANYTHING, "Error"),
    "ping": Operation(_RUNTIME, "200 while it can serve."),
    "execution_parameters": Operation(_RUNTIME, "What batch transform may ask.", None, "Object"),
    "invoke_model": Operation(_MODELS, "Asks a model that was loaded.", ANYTHING, ANYTHING, "ContainerError"),
    "list_models": Operation(_MODELS, "Models in memory, by page.", None, "ModelList", query=_PAGES),
    "describe_model": Operation(_MODELS, "One model in memory.", None, "Object"),
    "load_model": Operation(_MODELS, "Brings a model into memory.", "Object?", "Object"),
    "unload_model": Operation(_MODELS, "Takes a model out of memory; answers when the memory is back.", None, "Object"),
    "prewarm_models": Operation(_MODELS, "Begins to load models, as far as there is room.", "Names", "Object"),
    "refresh_model": Operation(_MODELS, "Asks the store for a newer version now.", None, "Object"),
    "pin_model": Operation(_MODELS, "Keeps a model from being evicted.", None, "Object"),
    "unpin_model": Operation(_MODELS, "Lets it be evicted again.", None, "Object"),
    "oip_server": Operation(_OIP, "Name, version and extensions.", None, "Object", "OipError"),
    "oip_live": Operation(_OIP, "It runs.", None, "Object", "OipError"),
    "oip_ready": Operation(_OIP, "It can serve.", None, "Object", "OipError"),
    "oip_infer": Operation(_OIP, "Asks a model.", "OipRequest", "OipAnswer", "OipError"),
    "oip_model_ready": Operation(_OIP, "Whether a model is in memory.", None, "Object", "OipError"),
    "oip_model": Operation(_OIP, "A model's inputs and outputs; loads it.", None, "Object", "OipError"),
    "oip_index": Operation(_OIP, "Models in memory.", "Object?", "List", "OipError"),
    "oip_load": Operation(_OIP, "Brings a model into memory.", "Object?", None, "OipError"),
    "oip_unload": Operation(_OIP, "Takes a model out of memory.", "Object?", None, "OipError"),
    "livez": Operation(_OPS, "It runs.", None, "Object"),
    "readyz": Operation(_OPS, "It can serve; otherwise why not.", None, "Object"),
    "state": Operation(_OPS, "Everything that an operator may see.", None, "Object"),
    "metrics": Operation(_OPS, "Prometheus' text form.", None, ANYTHING),
    "state_accesses": Operation(_OPS, "Who was asked for lately, in order.", None, "Object"),
    "state_models": Operation(_OPS, "Why a model is in memory, or is not.", None, "Object"),
    "ledger": Operation(_OPS, "What each model used, as JSON or CSV.", None, ANYTHING, query={"since": "E.g. 1d.", "until": "As since.", "top": "How many rows.", "by": "The column to sort by.", "format": "json or csv."}),
    "openapi": Operation(_OPS, "This document.", None, "Object"),
    "console_live": Operation(_CONSOLE, "Server-sent events: a glance a second.", None, ANYTHING),
    "console_events": Operation(_CONSOLE, "The event record.", None, "Object"),
    "console_models": Operation(_CONSOLE, "Models by page, sorted and searched.", None, "Object"),
    "console_model": Operation(_CONSOLE, "All about one model.", None, "Object"),
    "console_page": Operation(_CONSOLE, "The page.", None, ANYTHING),
}
# fmt: on

"""Pure: the routes in force -> an OpenAPI 3.1 document, for `GET /openapi.json`.

Decision: what a route is comes from the route; what to say of it stands here under its name, and a
test holds the two against each other. The body of an invocation is the model's own affair.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from mme.front.access import Action
from mme.front.openapi_operations import OPERATIONS
from mme.front.openapi_schemas import ANYTHING, HEADERS, SCHEMAS
from mme.front.routes import Route

_Json = dict[str, Any]
_NOTE = (
    "What this server answers. In a {name}, the slashes of a model's name may be written plainly "
    "or as %2F."
)


_UNSAID = frozenset({"oip_unknown", "console_file"})  # whatever else begins so; the page's parts


def describe(routes: Iterable[Route], version: str) -> _Json:
    """The document.

    Args:
        routes: those in force, in the order in which they are looked through.
        version: the server's.

    Raises:
        KeyError: nothing is said of a route's name.
    """
    paths: dict[str, _Json] = {}
    named: Counter[str] = Counter()
    for route in routes:
        if route.name not in _UNSAID:
            named[route.name] += 1
            count = named[route.name]
            operation_id = route.name if count == 1 else f"{route.name}_{count}"
            names, path = _template(route)
            operation = _operation(route, operation_id, names)
            paths.setdefault(path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "mme", "version": version, "description": _NOTE},
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "AWS Signature Version 4, service sagemaker.",
                },
            },
        },
    }


def _template(route: Route) -> tuple[list[str], str]:
    name = "EndpointName" if route.path.startswith("/endpoints/") else "name"
    path, count = re.subn(r"\{(\.\.\.)?\}", f"{{{name}}}", route.path)
    return [name] * count, path


def _operation(route: Route, operation_id: str, names: list[str]) -> _Json:
    said = OPERATIONS[route.name]
    parameters: list[_Json] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]
    parameters += [
        {"name": header, "in": "header", "schema": HEADERS[header]} for header in said.headers
    ]
    parameters += [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in said.query.items()
    ]
    told: _Json = {
        "operationId": operation_id,
        "tags": [said.tag],
        "summary": said.summary,
        "responses": {
            "200": {"description": "Done.", **_content(said.answer)},
            "default": {"description": "Refused.", **_content(said.error)},
        },
    }
    if parameters:
        told["parameters"] = parameters
    if said.body is not None:
        required = not said.body.endswith("?")
        told["requestBody"] = {"required": required, **_content(said.body.rstrip("?"))}
    if route.action is not Action.OPEN:
        told["security"] = [{"key": []}, {"signature": []}, {}]
        told["x-mme-action"] = route.action.value
    return told


def _content(name: str | None) -> _Json:
    if name is None:
        return {}
    if name == ANYTHING:
        return {"content": {"*/*": {}}}
    return {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}

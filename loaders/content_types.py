"""What a Content-Type and an Accept header mean here: which format to read, which format to write.

Decisions: names are compared without case and without their parameters. Of an Accept list the
highest q-value wins and, between equals, the first; SageMaker's XGBoost image refuses lists, but
its own Python SDK sends them. A client that leaves the choice to us gets what the operator set in
SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT, else the model's default, as in all of SageMaker's images.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache

from loaders.contract import UnsupportedAccept, UnsupportedContentType

_NAMES = {
    "csv": "csv",
    "text/csv": "csv",
    "libsvm": "libsvm",
    "text/libsvm": "libsvm",
    "text/x-libsvm": "libsvm",
    "json": "json",
    "application/json": "json",
    "jsonlines": "jsonlines",
    "application/jsonlines": "jsonlines",
    "application/x-jsonlines": "jsonlines",
    "npy": "npy",
    "application/x-npy": "npy",
    "recordio-protobuf": "recordio-protobuf",
    "application/x-recordio-protobuf": "recordio-protobuf",
}
_CANONICAL = {
    "csv": "text/csv",
    "json": "application/json",
    "jsonlines": "application/jsonlines",
    "npy": "application/x-npy",
    "recordio-protobuf": "application/x-recordio-protobuf",
}
_OPERATORS_CHOICE = "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "utf-16"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ContentType:
    """How a body is to be read."""

    name: str  # csv, json, jsonlines, libsvm, npy or recordio-protobuf
    charset: str = "utf-8"


@dataclass(frozen=True, kw_only=True, slots=True)
class Accept:
    """How an answer is to be written."""

    name: str  # csv, json, jsonlines, npy or recordio-protobuf
    content_type: str  # the answer's header


@lru_cache(maxsize=256)
def read_content_type(header: str | None, readable: tuple[str, ...], default: str) -> ContentType:
    """Says which of the `readable` formats the body is in; `default` where there is no header.

    Raises:
        UnsupportedContentType: a type or charset not read here; the message lists those that are.
    """
    media_type, parameters = _split(header or default)
    name = _NAMES.get(media_type)
    if name not in readable:
        accepted = ", ".join(alias for alias, meant in _NAMES.items() if meant in readable)
        raise UnsupportedContentType(
            f"{media_type[:100]} is not an accepted ContentType: {accepted}."
        )
    charset = parameters.get("charset", "utf-8").lower()
    if charset not in _CHARSETS:
        accepted = ", ".join(sorted(_CHARSETS))
        raise UnsupportedContentType(f"{charset[:40]} is not an accepted charset: {accepted}.")
    if parameters.get("label_size", "1") != "1":  # the XGBoost image's own parameter, and its words
        raise UnsupportedContentType(
            f"{media_type} is not an accepted csv ContentType. "
            "Optional parameter label_size must be equal to 1"
        )
    return ContentType(name=name, charset=charset)


def choose_accept(header: str | None, writable: tuple[str, ...], default: str) -> Accept:
    """Chooses one of the `writable` formats.

    Where there is no header, or a wildcard, the operator's choice counts, and `default` without
    one.

    Raises:
        UnsupportedAccept: nothing in the list is written here.
    """
    return _choose(header, writable, default, os.environ.get(_OPERATORS_CHOICE))


@lru_cache(maxsize=256)
def _choose(
    header: str | None, writable: tuple[str, ...], default: str, operators: str | None
) -> Accept:
    for media_type in _by_preference(header) or ["*/*"]:
        if media_type == "*/*" and operators:
            return _choose(operators, writable, default, None)
        if media_type == "*/*":
            return Accept(name=default, content_type=_CANONICAL[default])
        name = _match(media_type, writable, default)
        if name is not None:
            exact = media_type in _NAMES and "/" in media_type
            return Accept(name=name, content_type=media_type if exact else _CANONICAL[name])
    supported = [_CANONICAL[name] for name in writable]
    raise UnsupportedAccept(
        f"Accept type {(header or '')[:100]} is not supported. "
        f"Please use supported accept types: {supported}."
    )


def _match(media_type: str, writable: tuple[str, ...], default: str) -> str | None:
    if media_type.endswith("/*"):
        family = media_type[:-1]
        names = (default, *writable)
        return next((name for name in names if _CANONICAL[name].startswith(family)), None)
    name = _NAMES.get(media_type)
    return name if name in writable else None


def _by_preference(header: str | None) -> list[str]:
    weighed: list[tuple[float, str]] = []
    for part in (header or "").split(","):
        media_type, parameters = _split(part)
        if media_type:
            weighed.append((_weight(parameters.get("q", "1")), media_type))
    if weighed and not any(weight > 0 for weight, _ in weighed):
        return ["none"]  # everything was declined with q=0: no format has this name
    weighed.sort(key=lambda pair: -pair[0])  # stable: equals keep the client's order
    return [media_type for weight, media_type in weighed if weight > 0]


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0  # an unreadable weight is no reason to refuse an answer


def _split(header: str) -> tuple[str, dict[str, str]]:
    media_type, *rest = header.split(";")
    parameters: dict[str, str] = {}
    for item in rest:
        key, _, value = item.partition("=")
        parameters[key.strip().lower()] = value.strip().strip('"')
    return media_type.strip().lower(), parameters

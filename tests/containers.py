"""The container contract as a platform meets it: extracted directories, and a server over them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mme import Engine, build_config
from mme.config import ServerConfig
from mme.front.server import Front
from tests.rooms.front_double import Response, connected

HEAVY_BYTES = 8_000_000
_HEAVY = """
import os

def model_fn(model_dir):
    return os.urandom({size})

def transform_fn(model, data, content_type, accept):
    return str(len(model)), "text/plain"
"""


def put(root: Path, name: str, members: Mapping[str, bytes]) -> str:
    """Extracts a model as the platform does, and gives the url it would send."""
    directory = root / name / "model"
    for member, data in members.items():
        path = directory / member
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return str(directory)


def heavy(size_bytes: int = HEAVY_BYTES) -> dict[str, bytes]:
    """A model that takes far more memory than its files tell."""
    return {"code/inference.py": _HEAVY.format(size=size_bytes).encode()}


def loading(name: str, url: str) -> bytes:
    """The body of a POST /models."""
    return json.dumps({"model_name": name, "url": url}).encode()


@asynccontextmanager
async def container(root: Path, **changes: Any) -> AsyncIterator[tuple[Front, Engine]]:
    """A container of many models with one worker, behind a real socket."""
    values = {
        "container": "multi",
        "cache_dir": str(root / "cache"),
        "workers": 1,
        "threads": 1,
        "heartbeat_seconds": 0.2,
        **changes,
    }
    async with Engine(build_config(values)) as engine:
        front = Front(engine, ServerConfig(port=0), engine.metrics, engine.management)
        await front.start()
        try:
            yield front, engine
        finally:
            await front.close()


async def call(front: Front, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
    """One request on a connection of its own."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    async with connected(front) as wire:
        wire.send("\r\n".join([*lines, "", ""]).encode() + body)
        return await wire.response()

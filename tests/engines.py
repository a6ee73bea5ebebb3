"""An Engine over a directory of tarballs, as tests want one: small, quick, on its own."""

from __future__ import annotations

import asyncio
import io
import itertools
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mme import Engine, Invocation, ModelKey, Reply, build_config
from mme.cache.model_cache import ModelCache
from tests.eventually import eventually
from tests.models import CSV

_numbers = itertools.count()


def tarball(members: Mapping[str, bytes]) -> bytes:
    """A model.tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def drop(directory: Path, name: str, members: Mapping[str, bytes] | bytes) -> None:
    """Puts a tarball into a directory store as a careful uploader does: whole, by a rename."""
    data = members if isinstance(members, bytes) else tarball(members)
    target = directory / name
    target.parent.mkdir(parents=True, exist_ok=True)
    incoming = directory.parent / f"incoming-{next(_numbers)}"
    incoming.write_bytes(data)
    incoming.rename(target)


def invocation(model: str | None, body: bytes = CSV, **fields: Any) -> Invocation:
    """An invocation of `model` with ROW, csv in and out, unless said otherwise."""
    seconds = fields.pop("seconds", 30.0)
    values = {
        "request_id": f"request-{next(_numbers)}",
        "endpoint": "mme",
        "body": body,
        "content_type": "text/csv",
        "accept": "text/csv",
        "target_model": ModelKey(model) if model is not None else None,
        "deadline": asyncio.get_running_loop().time() + seconds,
    }
    return Invocation(**{**values, **fields})


async def ask(engine: Engine, model: str, **fields: Any) -> float:
    """The prediction for ROW."""
    reply: Reply = await engine.invoke(invocation(model, **fields))
    return float(reply.body)


@asynccontextmanager
async def running_engine(root: Path, **settings: Any) -> AsyncIterator[Engine]:
    """An engine with one worker over `root/models`; ends with an exact, empty-handed ledger."""
    models = root / "models"
    models.mkdir(exist_ok=True)
    values = {
        "models": str(models),
        "cache_dir": str(root / "cache"),
        "workers": 1,
        "threads": 1,
        "heartbeat_seconds": 0.2,
        "restore": "off",
        **settings,
    }
    async with Engine(build_config(values)) as engine:
        yield engine
        assert_ledger_is_exact(engine)


def assert_ledger_is_exact(engine: Engine) -> None:
    """Nothing reserved, nothing leaving, and resident is the sum of the models shown."""
    state = engine.state()
    memory, models = state["memory"], state["models"]
    assert memory["resident_bytes"] == sum(model["bytes"] for model in models)
    assert memory["reserved_bytes"] == 0
    assert memory["leaving_bytes"] == 0
    assert memory["resident_bytes"] <= memory["budget_bytes"]


async def quiet(engine: Engine) -> None:
    """Returns once no load or unload is under way."""

    def is_quiet() -> bool:
        state = engine.state()
        memory = state["memory"]
        return not (state["loading"] or memory["reserved_bytes"] or memory["leaving_bytes"])

    await eventually(is_quiet)


def cache_of(engine: Engine) -> ModelCache:
    """What is in its memory."""
    return engine._built_in.cache

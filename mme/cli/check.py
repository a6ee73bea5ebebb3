"""`mme check`: would a server load this tarball, and what would that cost; the real engine says so.

Decision: nothing is simulated. The tarball lies in a store of its own, the engine fetches, unpacks
and loads it in a worker as it would in service, so every refusal and figure is the server's own.
"""

from __future__ import annotations

import asyncio
import shutil
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from mme import logs
from mme.cli.client import read_body
from mme.cli.words import in_bytes, in_seconds
from mme.config import Config, build_config
from mme.domain import Invocation, ModelKey
from mme.errors import ArtifactRefused, RequestError

MEMBERS_SHOWN = 20
KEY = ModelKey("model.tar.gz")


def check(
    tarball: Annotated[Path, typer.Argument(help="A model.tar.gz.")],
    payload: Annotated[
        str | None,
        typer.Option(help="Predict with this too: a file, - for standard input, or text."),
    ] = None,
    content_type: Annotated[str, typer.Option(help="What the payload is.")] = "text/csv",
    accept: Annotated[str | None, typer.Option(help="What the answer should be.")] = None,
    trust: Annotated[
        str, typer.Option(help="code, or data: refuse what runs code to load.")
    ] = "code",
) -> None:
    """Tell whether a server would load a tarball, and what that takes."""
    if trust not in ("code", "data"):
        raise typer.BadParameter("must be code or data", param_hint="--trust")
    body = None if payload is None else _read_payload(payload)
    console = Console(soft_wrap=True, highlight=False)

    def tell(name: str, value: str) -> None:
        console.print(f"[dim]{name:>12}[/dim]  {escape(value)}")

    with tempfile.TemporaryDirectory(prefix="mme-check-") as scratch:
        config = _prepare(tarball, Path(scratch), trust)
        logs.configure(config.log)
        try:
            asyncio.run(_try(config, tarball, tell, body, content_type, accept))
        finally:
            logs.close()
    console.print("[green]a server would load it[/green]")


def _read_payload(text: str) -> bytes:
    try:
        return Path(text).read_bytes() if text != "-" and Path(text).is_file() else read_body(text)
    except OSError as error:
        raise RequestError(f"cannot read the payload: {error}") from error


def _prepare(tarball: Path, scratch: Path, trust: str) -> Config:
    store = scratch / "store"
    store.mkdir()
    try:
        try:
            (store / KEY).hardlink_to(tarball.resolve(strict=True))
        except OSError:  # another file system, or one without links
            shutil.copyfile(tarball, store / KEY)
    except OSError as error:
        raise ArtifactRefused(f"cannot read {tarball}: {error.strerror}") from error
    return build_config(
        {
            "models": str(store),
            "cache_dir": str(scratch / "cache"),
            "workers": 1,
            "trust": trust,
            "log_level": "error",
        }
    )


async def _try(
    config: Config,
    tarball: Path,
    tell: Callable[[str, str], None],
    body: bytes | None,
    content_type: str,
    accept: str | None,
) -> None:
    from mme.app import Engine  # noqa: PLC0415 - the whole server, for this command only

    async with Engine(config) as engine:
        await engine.load(KEY)
        _tell_facts(tarball, engine.state(), tell)
        if body is None:
            return
        started = time.perf_counter()
        reply = await engine.invoke(
            Invocation(
                request_id=str(uuid.uuid4()),
                endpoint=config.server.endpoint_name,
                body=body,
                deadline=asyncio.get_running_loop().time() + config.server.invocation_seconds,
                content_type=content_type,
                accept=accept,
                target_model=KEY,
            )
        )
        spent = in_seconds(time.perf_counter() - started)
        answer = reply.body.decode(errors="backslashreplace").strip()
        tell("prediction", f"{answer}  ({reply.content_type}, {spent})")


def _tell_facts(tarball: Path, state: dict[str, Any], tell: Callable[[str, str], None]) -> None:
    model = state["models"][0]
    tell("tarball", str(tarball))
    tell("members", _members(tarball))
    tell("loader", str(model["framework"]))
    tell("compressed", in_bytes(tarball.stat().st_size))
    tell("on disk", in_bytes(model["unpacked_bytes"]))
    tell("in memory", f"{in_bytes(model['bytes'])}, measured in its worker")
    tell("load time", in_seconds(model["load_seconds"]))


def _members(tarball: Path) -> str:
    try:
        with tarfile.open(tarball) as archive:  # just unpacked, so it is harmless
            names = [member.name for member in archive.getmembers() if member.isfile()]
    except tarfile.ReadError:
        return "not listed (zstd)"
    more = f" and {len(names) - MEMBERS_SHOWN} more" if len(names) > MEMBERS_SHOWN else ""
    return ", ".join(names[:MEMBERS_SHOWN]) + more

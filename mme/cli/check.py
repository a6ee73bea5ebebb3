"""`mme check`: would a server load this tarball, and what would that cost; the real engine says so.

Decision: nothing is simulated. The tarball lies in a store of its own, the engine fetches and
unpacks it, builds its requirements and loads it in a worker as it would in service, so every
refusal and figure is the server's own. Only environments may be kept for the next check: building
one may take minutes.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from mme.cli.check_report import Report
from mme.cli.client import read_body
from mme.cli.words import in_seconds
from mme.config import Config, load_config
from mme.domain import Invocation, ModelKey
from mme.errors import ArtifactRefused, ConfigError, LoadFailed, ModelError, RequestError

if TYPE_CHECKING:
    from mme.app.engine import Engine

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
    requirements: Annotated[
        str, typer.Option(help="auto, on or off: whether code/requirements.txt is installed.")
    ] = "auto",
    package_index: Annotated[
        str | None, typer.Option(help="Where requirements come from: a URL, or none.")
    ] = None,
    wheels: Annotated[
        str | None, typer.Option(help="A directory of wheels that they may come from, too.")
    ] = None,
    cache_dir: Annotated[
        Path | None,
        typer.Option(help="Keep what is built here, for the next check; not a server's own."),
    ] = None,
) -> None:
    """Tell whether a server would load a tarball, and what that takes."""
    body = None if payload is None else _read_payload(payload)
    report = Report(tarball)
    structlog.configure(processors=[report.hear])
    settings = {
        "trust": trust,
        "requirements": requirements,
        "package_index": package_index,
        "wheels": wheels,
    }
    with tempfile.TemporaryDirectory(prefix="mme-check-") as scratch:
        config = _prepare(tarball, Path(scratch), cache_dir, settings)
        asyncio.run(_try(config, report, body, content_type, accept))
    report.console.print("[green]a server would load it[/green]")


def _read_payload(text: str) -> bytes:
    try:
        return Path(text).read_bytes() if text != "-" and Path(text).is_file() else read_body(text)
    except OSError as error:
        raise RequestError(f"cannot read the payload: {error}") from error


def _prepare(
    tarball: Path, scratch: Path, cache_dir: Path | None, settings: dict[str, str | None]
) -> Config:
    store, cache = scratch / "store", scratch / "cache"
    store.mkdir()
    cache.mkdir()
    try:
        try:
            (store / KEY).hardlink_to(tarball.resolve(strict=True))
        except OSError:  # another file system, or one without links
            shutil.copyfile(tarball, store / KEY)
    except OSError as error:
        raise ArtifactRefused(f"cannot read {tarball}: {error.strerror}") from error
    if cache_dir is not None:
        _keep_environments(cache, cache_dir.expanduser())
    own = {"models": str(store), "cache_dir": str(cache), "workers": "1"}
    return load_config({**settings, **own}, {})


def _keep_environments(cache: Path, cache_dir: Path) -> None:
    kept = cache_dir.resolve() / "environments"
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cache_dir: {cache_dir} can't be used: {error.strerror}") from error
    (cache / kept.name).symlink_to(kept)


async def _try(
    config: Config, report: Report, body: bytes | None, content_type: str, accept: str | None
) -> None:
    from mme.app.engine import Engine  # noqa: PLC0415 - the whole server, for this command only

    async with Engine(config) as engine:
        unpacked = Path(config.disk.cache_dir, "models")  # as `store/disk_files.py` lays it out
        report.tell("tarball", str(report.tarball))
        try:
            with report.console.status("loading"):
                await engine.load(KEY)
        except ModelError as error:
            report.tell_contents(unpacked)
            if report.tell_failed_build(engine.state()):
                raise LoadFailed("The model's requirements could not be installed.") from error
            raise
        report.tell_contents(unpacked)
        report.tell_costs(engine.state())
        if body is not None:
            question = Invocation(
                request_id=str(uuid.uuid4()),
                endpoint=config.server.endpoint_name,
                body=body,
                deadline=asyncio.get_running_loop().time() + config.server.invocation_seconds,
                content_type=content_type,
                accept=accept,
                target_model=KEY,
            )
            await _predict(engine, report, question)


async def _predict(engine: Engine, report: Report, question: Invocation) -> None:
    started = time.perf_counter()
    reply = await engine.invoke(question)
    spent = in_seconds(time.perf_counter() - started)
    answer = reply.body.decode(errors="backslashreplace").strip()
    report.tell("prediction", f"{answer}  ({reply.content_type}, {spent})")

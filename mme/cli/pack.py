"""`mme pack`: a model file or directory in, a tarball out that a server loads.

Decision: whether it would be recognised is asked of the loaders, in a process of their own, before
anything is written; a guess made here would be a second list to keep.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from mme.cli.tarball import collect, write_tarball
from mme.cli.words import in_bytes
from mme.errors import ArtifactRefused, LoadFailed

CONVENTIONAL_NAMES = {"xgboost": "xgboost-model", "torch": "model.pt"}
"""Framework -> the file name that its loader takes, for a model whose own name tells nothing."""


def pack(
    source: Annotated[
        Path, typer.Argument(help="A model file, or a directory of all that belongs to it.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Where to write it. Default: SOURCE's name, here."),
    ] = None,
    framework: Annotated[
        str | None,
        typer.Option(
            help=f"What it is, where its name does not tell: {', '.join(CONVENTIONAL_NAMES)}."
        ),
    ] = None,
) -> None:
    """Pack a model into a tarball that can be dropped into the bucket."""
    if framework is not None and framework not in CONVENTIONAL_NAMES:
        raise typer.BadParameter(
            f"must be one of {', '.join(CONVENTIONAL_NAMES)}", param_hint="--framework"
        )
    target = out or Path(f"{source.resolve().name.split('.')[0]}.tar.gz")
    try:
        took_for = pack_model(source, target, framework)
    except OSError as error:
        raise ArtifactRefused(f"cannot pack {source}: {error}") from error
    size = in_bytes(target.stat().st_size)
    Console(soft_wrap=True).print(
        f"[bold]{escape(str(target))}[/bold]  {size}, taken for {escape(took_for)}", highlight=False
    )


def pack_model(source: Path, target: Path, framework: str | None = None) -> str:
    """Packs `source` into `target` and says what a server will take it for.

    Raises:
        ArtifactRefused: it holds links, devices or nothing, or `target` lies inside it.
        LoadFailed: no loader takes it, or another than `framework` does.
        OSError: it cannot be read, or `target` not be written.
    """
    if target.resolve().is_relative_to(source.resolve()):
        raise ArtifactRefused(
            f"{target} would lie inside what is packed; name another place with -o"
        )
    if source.is_dir() and not source.is_symlink():
        members = collect(source)
        took_for = ask_loaders(source, framework)
    else:
        members, took_for = _single(source, framework)
    write_tarball(members, target)
    return took_for


def _single(source: Path, framework: str | None) -> tuple[dict[str, Path], str]:
    if source.is_symlink() or not source.is_file():
        raise ArtifactRefused(
            f"{source} is no file and no directory" + (" but a link" * source.is_symlink())
        )
    names = [source.name] + ([CONVENTIONAL_NAMES[framework]] if framework else [])
    for name in names:  # its own name first: a framework may have several kinds of file
        with tempfile.TemporaryDirectory(prefix="mme-pack-") as stage:
            # a link, for the loaders' eyes only: no copy of what may be gigabytes
            Path(stage, name).symlink_to(source.resolve())
            try:
                return {name: source}, ask_loaders(Path(stage), framework)
            except LoadFailed:
                if name == names[-1]:
                    raise
    raise LoadFailed(f"{source} was not recognised")


def ask_loaders(directory: Path, framework: str | None) -> str:
    """What the loaders take `directory` for. Raises LoadFailed, with what they would have taken."""
    command = [sys.executable, "-P", "-m", "loaders.find", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise LoadFailed(f"the loaders gave no answer: {done.stderr.strip()[-500:]}") from None
    if "error" in answer:
        hint = "" if framework else " If its name only does not tell, say --framework."
        raise LoadFailed(f"{answer['error']}{hint}")
    if framework is not None and answer["framework"] != framework:
        raise LoadFailed(f"this is a model of {answer['framework']}, not of {framework}")
    return f"{answer['framework']} ({answer['took_for']})"

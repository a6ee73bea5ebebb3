"""`mme pack`: a model in, with a script and requirements if it has any, a tarball that loads out.

Decisions: nothing is written before the loaders recognise it. A script is packed as
code/inference.py whatever it was called, because that is what servers run unless told otherwise.
Nothing that SOURCE holds is ever replaced.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from mme.cli.recognise import CODE, REQUIREMENTS, SCRIPT, recognise
from mme.cli.tarball import checked, collect, write_tarball
from mme.cli.words import in_bytes
from mme.errors import ArtifactRefused, LoadFailed

CONVENTIONAL_NAMES = {
    "xgboost": "xgboost-model",
    "torch": "model.pt",
    "sklearn": "model.joblib",
    "lightgbm": "model.txt",
    "catboost": "model.cbm",
    "onnx": "model.onnx",
    "tensorflow": "model.keras",
}
"""Framework -> the file name that its loader takes, for a model whose own name tells nothing."""


def pack(
    source: Annotated[
        Path, typer.Argument(help="A model file, or a directory of all that belongs to it.")
    ],
    script: Annotated[
        Path | None,
        typer.Option(help="What code/inference.py shall be: a file, or a folder that holds it."),
    ] = None,
    requirements: Annotated[
        Path | None, typer.Option(help="What code/requirements.txt shall be.")
    ] = None,
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
        took_for = pack_model(source, target, framework, script=script, requirements=requirements)
    except OSError as error:
        raise ArtifactRefused(f"cannot pack {source}: {error}") from error
    size = in_bytes(target.stat().st_size)
    Console(soft_wrap=True).print(
        f"[bold]{escape(str(target))}[/bold]  {size}, taken for {escape(took_for)}", highlight=False
    )


def pack_model(
    source: Path,
    target: Path,
    framework: str | None = None,
    *,
    script: Path | None = None,
    requirements: Path | None = None,
) -> str:
    """Packs `source` into `target` and says what a server will take it for.

    Args:
        source: a model file, or a directory of all that belongs to it.
        target: the tarball.
        framework: what it has to be; a single file gets the framework's usual name if need be.
        script: becomes code/inference.py; a directory that holds it becomes code/.
        requirements: becomes code/requirements.txt.

    Raises:
        ArtifactRefused: it holds links, devices or nothing, `target` lies inside it, or the code
            is there already or incomplete.
        LoadFailed: no loader takes it, or another than `framework` does.
        OSError: it cannot be read, or `target` not be written.
    """
    for path in (source, script):
        if path is not None and target.resolve().is_relative_to(path.resolve()):
            raise ArtifactRefused(
                f"{target} would lie inside what is packed; name another place with -o"
            )
    code = _collect_code(script, requirements)
    drafts = [_with_code(draft, code, source) for draft in _drafts(source, framework)]
    members, took_for = _recognised(drafts, framework)
    write_tarball(members, target)
    return took_for


def _recognised(
    drafts: list[dict[str, Path]], framework: str | None
) -> tuple[dict[str, Path], str]:
    for draft in drafts[:-1]:
        with suppress(LoadFailed):
            return draft, recognise(draft, framework)
    return drafts[-1], recognise(drafts[-1], framework)


def _drafts(source: Path, framework: str | None) -> list[dict[str, Path]]:
    """What the model's members may be, the likeliest first."""
    if source.is_dir() and not source.is_symlink():
        return [collect(source)]
    # its own name first: a framework may have several kinds of file
    names = [source.name] + ([CONVENTIONAL_NAMES[framework]] if framework else [])
    return [{name: checked(source)} for name in names]


def _collect_code(script: Path | None, requirements: Path | None) -> dict[str, Path]:
    code: dict[str, Path] = {}
    if script is not None and checked(script).is_dir():
        code = {
            f"{CODE}/{name}": path
            for name, path in collect(script).items()
            if "__pycache__" not in name.split("/")  # other bytes after every run
        }
        if SCRIPT not in code:
            raise ArtifactRefused(f"{script} holds no inference.py, which is what servers run")
    elif script is not None:
        code[SCRIPT] = script
    if requirements is not None:
        if REQUIREMENTS in code:
            raise ArtifactRefused(f"{script} holds a requirements.txt of its own")
        code[REQUIREMENTS] = checked(requirements)
    return code


def _with_code(draft: dict[str, Path], code: dict[str, Path], source: Path) -> dict[str, Path]:
    for name in draft.keys() & code.keys():
        if not (draft[name].is_dir() and code[name].is_dir()):
            raise ArtifactRefused(f"{source} holds {name} already")
    return draft | code

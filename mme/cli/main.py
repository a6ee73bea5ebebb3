"""`mme`: gathers the commands; what they raise goes through `door.py`."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from mme.cli.check import check
from mme.cli.demo import demo
from mme.cli.door import door
from mme.cli.explain import explain
from mme.cli.invoke import invoke
from mme.cli.ledger import ledger
from mme.cli.models import models
from mme.cli.pack import pack
from mme.cli.sagemaker import with_container_spelled_out
from mme.cli.serve import serve
from mme.cli.top import top
from mme.cli.whatif import whatif

app = typer.Typer(
    help="Thousands of models behind one SageMaker-compatible endpoint.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (serve, demo, pack, check, invoke, models, explain, ledger, top, whatif):
    app.command()(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mme {version('mme')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Thousands of models behind one SageMaker-compatible endpoint."""


def main() -> None:
    """Runs the command line. Exits the process."""
    with door():
        app(with_container_spelled_out(sys.argv[1:]))


if __name__ == "__main__":
    main()

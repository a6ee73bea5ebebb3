"""`mme`: gathers the commands, and turns whatever they raise into one line and an exit code.

Exit codes: 0 done; 1 refused, wrong or unreachable; 2 the command line or a setting is wrong.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from mme.cli.check import check
from mme.cli.demo import demo
from mme.cli.explain import explain
from mme.cli.invoke import invoke
from mme.cli.models import models
from mme.cli.pack import pack
from mme.cli.sagemaker import with_container_spelled_out
from mme.cli.serve import serve
from mme.cli.whatif import whatif
from mme.errors import ConfigError, MmeError

app = typer.Typer(
    help="Thousands of models behind one SageMaker-compatible endpoint.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (serve, demo, pack, check, invoke, models, explain, whatif):
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
    try:
        app(with_container_spelled_out(sys.argv[1:]))
    except ConfigError as error:
        sys.exit(_complain(str(error), code=2))
    except MmeError as error:
        sys.exit(_complain(str(error), code=1))
    except Exception as error:  # the command line's door: a line, not a traceback
        if sys.flags.dev_mode:
            raise
        fault = f"{type(error).__name__}: {error}"
        sys.exit(_complain(f"unexpected {fault} (python -X dev shows where)", code=1))


def _complain(message: str, code: int) -> int:
    typer.echo(f"mme: {message}", err=True)
    return code


if __name__ == "__main__":
    main()

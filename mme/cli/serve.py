"""`mme serve`: the server, with every setting as a flag."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mme.cli.options import takes_settings
from mme.cli.sagemaker import load_settings
from mme.cli.server import become_server


@takes_settings
def serve(
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            envvar="MME_CONFIG",
            help="A TOML file whose keys are setting names.",
            show_default=False,
        ),
    ] = None,
    **flags: str | None,
) -> None:
    """Serve models from a bucket or a directory, or as a SageMaker container, until SIGTERM.

    Settings also come from MME_* variables and from the file.
    Flags win over variables, variables over the file. More: docs/settings.md.
    """
    become_server(load_settings(flags, os.environ, config))

"""What the run needs around the server: models, a store that can misbehave, a place for debris."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from load_tests.replicas import make_replicas
from load_tests.s3_server import ObjectStore, object_store
from load_tests.soak.callers import Newest
from load_tests.soak.relay import Relay, relayed
from load_tests.soak.traffic import World
from load_tests.versions import Versions

MENDED = "mended.tar.gz"
_OVERWRITTEN = "overwritten.tar.gz"
_BOOSTERS = 8


def make_world(scratch: Path, models: int) -> World:
    """Packs so many models, the one that is mended and the one that is overwritten.

    Raises:
        TrainingFailed: they could not be made.
    """
    questions = make_replicas(scratch, models, min(models, _BOOSTERS))
    directory = scratch / "models"
    (directory / MENDED).hardlink_to(directory / questions[0].target)
    versions = Versions(directory / _OVERWRITTEN, scratch)
    versions.write(0)
    return World(
        questions=questions,
        mended=replace(questions[0], target=MENDED),
        versions=versions,
        overwritten=_OVERWRITTEN,
        newest=Newest(),
    )


def open_store(kind: str, scratch: Path, stack: ExitStack) -> tuple[Relay | None, list[str]]:
    """An S3 over `scratch/models` behind a relay, or nothing for the directory itself.

    Returns the relay, and the flags that tell the server where its models are.

    Raises:
        ServerFailed: there is no S3, or it does not start.
    """
    if kind == "directory":
        return None, [f"--models={scratch / 'models'}"]
    store = object_store(scratch, scratch / "s3.log", "--dir-cache-time", "0s")
    relay = stack.enter_context(relayed(stack.enter_context(store).port))
    return relay, ObjectStore(port=relay.port).flags


@contextmanager
def temporary(directory: Path) -> Iterator[Path]:
    """Where what is started meanwhile puts its temporary files."""
    directory.mkdir()
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(directory)
    try:
        yield directory
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before

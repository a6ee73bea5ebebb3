"""Every test alone in the world: nothing of the developer's is seen, and nothing is left over.

`bucket` is a fresh bucket on a real S3 (OpenStack Swift), which is started once a run.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.buckets import Bucket, SwiftServer, login_of_a_stranger, serve_swift
from tests.leaks import Leaks

_HIDDEN = ("AWS_", "MME_", "SAGEMAKER_")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_SWIFT_SECONDS = 90  # the first test with a bucket pays for the start


def pytest_collection_finish(session: pytest.Session) -> None:
    for item in session.items:
        if "swift" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(_SWIFT_SECONDS))
            return


@pytest.fixture(scope="session")
def scratch_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(autouse=True)
def alone(scratch_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An own home and temporary directory, an environment without AWS_*, MME_* and proxies.

    Afterwards no child process, thread, descriptor or temporary file may be left.
    """
    own = scratch_root / uuid.uuid4().hex[:8]
    for name in ("home", "tmp"):
        (own / name).mkdir(parents=True)
    for name in list(os.environ):
        if name.upper() in _PROXIES or name.startswith(_HIDDEN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(own / "home"))
    monkeypatch.setenv("TMPDIR", str(own / "tmp"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(tempfile, "tempdir", str(own / "tmp"))
    leaks = Leaks(own / "tmp")
    yield own
    leaks.assert_none()
    shutil.rmtree(own)


@pytest.fixture(autouse=True)
async def no_task_left(alone: Path) -> AsyncIterator[None]:
    """Every task has ended with the test that started it."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"tasks left behind: {left}"


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServer]:
    """A real S3 server, once a run."""
    with serve_swift(tmp_path_factory.mktemp("swift")) as server:
        yield server


@pytest.fixture
def bucket(swift: SwiftServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A fresh bucket, and the environment set to its owner's credentials."""
    environment = swift.environment()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    name = f"models-{uuid.uuid4().hex[:12]}"
    swift.client.create_bucket(Bucket=name)
    yield Bucket(
        name=name,
        endpoint=swift.endpoint,
        client=swift.client,
        environment=environment,
        stranger_environment=swift.environment(login_of_a_stranger()),
    )
    swift.client.close()  # its connections; it opens new ones when it is used again

"""What a cold answer is made of, each part alone and without this server, on the same object.

Decision: the parts are done one after the other, as plainly and as fast as they can be here: a
signed GET over a kept connection, igzip, tarfile, the framework's own load and prediction. What our
loaders check besides is ours to answer for, and no part of the floor. One thread a framework, as
the peers' servers have: a second one of OpenMP's spins for milliseconds after its work, and took
that core from the answer that is measured next.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from isal import igzip

from load_tests.answers import Checker
from load_tests.peers.model_code import load
from load_tests.plan import Question

_CHUNK_BYTES = 1 << 20
_THREADS = "OMP_NUM_THREADS"
_open_gzip: Any = igzip.IGzipFile  # untyped


class WrongPart(Exception):
    """A part did not give what it should."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Seconds of each."""

    get: float
    decompress: float  # alone: unpacking does it again
    unpack: float
    load: float
    predict: float

    @property
    def total(self) -> float:
        """One after the other."""
        return self.get + self.unpack + self.load + self.predict

    @property
    def larger(self) -> float:
        """What can't be less even where all else happens meanwhile."""
        return max(self.get, self.decompress)


def middle(found: Sequence[Parts]) -> Parts:
    """The median of each part."""
    return Parts(
        **{
            each.name: median(getattr(parts, each.name) for parts in found)
            for each in fields(Parts)
        }
    )


class Bench:
    """Does the parts. `port` is the store's. Made before any framework is imported."""

    def __init__(self, port: int) -> None:
        if _THREADS not in os.environ and "xgboost" in sys.modules:
            raise RuntimeError(f"xgboost was imported before {_THREADS} was set: it reads it then")
        os.environ[_THREADS] = "1"
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)

    def take(self, signed: str, tarball: Path, question: Question) -> Parts:
        """All parts of one model's first answer. Raises WrongPart."""
        started = time.perf_counter()
        self._connection.request("GET", signed)
        got = len(self._connection.getresponse().read())
        get_seconds = time.perf_counter() - started
        if got != tarball.stat().st_size:
            raise WrongPart(f"{tarball.name} did not come whole")
        directory = Path(tempfile.mkdtemp(prefix="mme-load-"))
        try:
            return Parts(get=get_seconds, **_local_parts(tarball, directory, question))
        finally:
            shutil.rmtree(directory)


def _local_parts(tarball: Path, directory: Path, question: Question) -> dict[str, float]:
    moments = [time.perf_counter()]
    with _open_gzip(tarball, "rb") as plain:
        while plain.read(_CHUNK_BYTES):
            pass
    moments.append(time.perf_counter())
    with _open_gzip(tarball, "rb") as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
        archive.extractall(directory, filter="data")
    moments.append(time.perf_counter())
    [file] = directory.iterdir()
    path = file if file.suffix == ".pt" else file.rename(file.with_suffix(".ubj"))
    moments.append(time.perf_counter())
    predict = load(path)
    moments.append(time.perf_counter())
    row = np.array([question.body.split(",")], dtype=np.float32)
    answer = ",".join(map(repr, map(float, predict(row)[0])))
    moments.append(time.perf_counter())
    if not Checker(question.expected).is_right(answer.encode()):
        raise WrongPart(f"{tarball.name}: the framework alone gave {answer}")
    names = ("decompress", "unpack", "rename", "load", "predict")
    spans = zip(names, moments, moments[1:], strict=False)
    return {name: after - before for name, before, after in spans if name != "rename"}

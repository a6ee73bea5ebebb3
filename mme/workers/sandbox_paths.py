"""Which files a worker may reach: Python and the system's libraries to read, its own to write.

Not below these: the server's settings and keys, homes, the disk tier, other workers' directories.
`/dev/shm` is needed for locks between processes; it can't be listed, and names there are random.
`/proc` tells of other processes what `ps` does; their memory and environment stay closed.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from mme.workers.sandbox_landlock import (
    ALL_BUT_RUN,
    MAKE_REG,
    READ,
    READ_FILE,
    REMOVE_FILE,
    RUN,
    TRUNCATE,
    WRITE_FILE,
    Rule,
)

_PROGRAMS: tuple[str, ...] = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store")
_TOLD = (
    "/proc", "/sys",
    *(f"/etc/{name}" for name in (
        "alternatives", "ca-certificates", "fonts", "group", "host.conf", "hosts", "ld.so.cache",
        "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf", "os-release",
        "OpenCL", "passwd", "pki", "resolv.conf", "ssl", "timezone",
    )),
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
_ACCELERATORS = ("/dev/nvidia*", "/dev/dri", "/dev/kfd")
_FORGET_PEAK = "/proc/self/clear_refs"  # see load_watch.py
_SHARED = READ_FILE | WRITE_FILE | MAKE_REG | REMOVE_FILE | TRUNCATE


def rules(
    temporary: Path, models: Path, others: Iterable[Path], *, reads_all: bool
) -> Iterator[Rule]:
    """What this process may do.

    Args:
        temporary: to write in.
        models: to read.
        others: to read, and to run.
        reads_all: it may read everything else, too.
    """
    for path in {*map(Path, _PROGRAMS), *_python(), *others}:
        yield Rule(path, RUN)
    for path in (*map(Path, _TOLD), models):
        yield Rule(path, READ)
    accelerators = (found for kind in _ACCELERATORS for found in glob.glob(kind))  # noqa: PTH207 - absolute patterns
    for device in (*_DEVICES, *accelerators):
        yield Rule(Path(device), READ | WRITE_FILE)
    yield Rule(Path(_FORGET_PEAK), WRITE_FILE | TRUNCATE)
    yield Rule(Path("/dev/shm"), _SHARED)  # noqa: S108 - not a temporary file of ours
    yield Rule(temporary, ALL_BUT_RUN)
    if reads_all:
        yield Rule(Path("/"), RUN)


def _python() -> Iterator[Path]:
    """Where this interpreter, its modules and the libraries it is told of are."""
    yield from (Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[2])
    yield Path(sys.executable).resolve().parent
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    yield from (Path(entry) for entry in (*sys.path, *libraries) if os.path.isabs(entry))  # noqa: PTH117 - text, perhaps empty

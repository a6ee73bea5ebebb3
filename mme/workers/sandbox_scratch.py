"""A worker's own directory: `tmp` to write in, and in `models` the files of the models it has.

Decision: these files are hard links to the disk tier's, made before a load and removed after the
unload, or when the artifact leaves the disk tier, so that a worker can be kept from all artifacts
but those of its own models. For one file both take 0.2 ms. Rejected: the disk tier open to all
workers; bind mounts, which need root.
Whoever owns a directory holds a lock on it: what nobody holds was left by a server that was killed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

_UNLINKABLE = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)
_PREFIX = "mme-worker-"


class ScratchDeleted(OSError):
    """A worker's directory was deleted under it; one made anew would be none that it may read."""


class Scratch:
    """One worker's directory, there until `remove`.

    Args:
        root: that it is made in; None: the system's temporary directory.
        user: whose `tmp` is to be; None: stays ours.

    Raises:
        OSError: it can't be made.
    """

    def __init__(self, root: Path | None, user: tuple[int, int] | None) -> None:
        self._lent: dict[str, tuple[Path, str]] = {}  # by model: where, and whose artifact's
        self._models: dict[str, set[str]] = {}  # by artifact
        self._turn = threading.Lock()  # a load's thread may meet the one that removes all
        self.is_removed = False
        self._lock: int | None = None
        if root is None:
            self.directory = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
        else:
            self.directory, self._lock = _claim(root)
        self.directory.chmod(0o711)
        self.models, self.temporary = self.directory / "models", self.directory / "tmp"
        self.models.mkdir()
        self.models.chmod(0o711)
        self._made = self.models.stat()
        self.temporary.mkdir(mode=0o700)
        if user is not None:
            os.chown(self.temporary, *user)

    def lend(self, model: str, artifact: Path) -> Path:
        """A directory in `models` with the artifact's files. Raises ScratchDeleted, OSError."""
        with self._turn:
            if self.is_removed:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if not self._is_there():
                raise ScratchDeleted(errno.ENOENT, os.strerror(errno.ENOENT))
            lent = self.models / uuid.uuid4().hex
            self._lent[model] = lent, str(artifact)
            self._models.setdefault(str(artifact), set()).add(model)
            shutil.copytree(artifact, lent, copy_function=_link)
        return lent

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(self.models.stat(), self._made)
        except FileNotFoundError:
            return False

    def take_back(self, models: Iterable[str]) -> None:
        """Removes what was lent for them."""
        with self._turn:
            for model in models:
                if model in self._lent:
                    shutil.rmtree(self._forget(model), ignore_errors=True)

    def lent_of(self, artifact: Path) -> list[Path]:
        """What was lent of an artifact that leaves the disk: now the caller's to remove."""
        with self._turn:
            return [self._forget(model) for model in tuple(self._models.get(str(artifact), ()))]

    def _forget(self, model: str) -> Path:
        lent, artifact = self._lent.pop(model)
        self._models[artifact].discard(model)
        if not self._models[artifact]:
            del self._models[artifact]
        return lent

    def remove(self) -> None:
        """Removes it with all that is in it."""
        with self._turn:
            self.is_removed = True
            shutil.rmtree(self.directory, ignore_errors=True)
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _UNLINKABLE:
            raise
        shutil.copyfile(source, target)  # another file system


def _claim(root: Path) -> tuple[Path, int]:
    root.mkdir(mode=0o711, parents=True, exist_ok=True)
    with _locked(root):
        for left in root.iterdir():
            with contextlib.suppress(OSError), _locked(left, fcntl.LOCK_NB):
                shutil.rmtree(left, ignore_errors=True)
        directory = root / uuid.uuid4().hex
        directory.mkdir()
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return directory, descriptor


@contextlib.contextmanager
def _locked(directory: Path, wait: int = 0) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | wait)
        yield
    finally:
        os.close(descriptor)

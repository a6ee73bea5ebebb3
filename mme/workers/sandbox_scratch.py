"""A worker's own directory: `tmp` to write in, and in `models` the files of the models it has.

Decision: these files are hard links to the disk tier's, made before a load and removed after the
unload, or when the artifact leaves the disk tier, so that a worker can be kept from all artifacts
but those of its own models. A few files, as most models are, are linked by the event loop itself,
into a directory that an earlier one has left or that was made ahead, renamed: 25 us for both, where
a thread takes 0.1 ms to be asked, and a directory made on ext4 0.1 to 0.6. Rejected: the disk tier
open to all workers; bind mounts, which need root.
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
from dataclasses import dataclass
from pathlib import Path

from mme.workers import hostile_tree

_UNLINKABLE = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)
_PREFIX = "mme-worker-"
_EMPTY_KEPT = 64
_EMPTY_LOW, _EMPTY_STOCKED = 8, 24  # directories


class ScratchDeleted(OSError):
    """A worker's directory was deleted under it; one made anew would be none that it may read."""


@dataclass(frozen=True, slots=True)
class _Lent:
    """What was lent for one model."""

    directory: str
    artifact: str  # whose files these are
    files: tuple[str, ...] = ()  # all that is in the directory; (): it takes a look


class Scratch:
    """One worker's directory, there until `remove`.

    Args:
        root: that it is made in; None: the system's temporary directory.
        user: whose `tmp` is to be; None: stays ours.

    Raises:
        OSError: it can't be made.
    """

    def __init__(self, root: Path | None, user: tuple[int, int] | None) -> None:
        self._lent: dict[str, _Lent] = {}  # by model
        self._models: dict[str, set[str]] = {}  # by artifact
        self._empty: list[str] = []  # directories in `models`
        self._turn = threading.Lock()  # of what is lent; never for long: the event loop takes it
        self._working = threading.Lock()  # of threads in the directory; taken before `_turn`
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
        self.stock()

    @property
    def is_low(self) -> bool:
        """Whether it is time to `stock`."""
        return len(self._empty) < _EMPTY_LOW

    def stock(self) -> None:
        """Makes directories ahead, for loads of what is new here; in a thread."""
        with self._working, contextlib.suppress(OSError):  # who needs one learns of it
            while len(self._empty) < _EMPTY_STOCKED and not self.is_removed:
                directory = self._unused()
                os.mkdir(directory)  # noqa: PTH102 - stays text
                self._empty.append(directory)

    def lend(self, model: str, artifact: str) -> str:
        """A directory in `models` with the artifact's files. Raises ScratchDeleted, OSError."""
        with self._working:
            with self._turn:
                lent = self._begin(model, artifact)
            try:
                shutil.copytree(artifact, lent, copy_function=_link)
            finally:
                if model not in self._lent:  # the artifact left the disk meanwhile
                    shutil.rmtree(lent, ignore_errors=True)
        return lent

    def lend_few(self, model: str, artifact: str, files: tuple[str, ...]) -> str | None:
        """As `lend` of what is a few files, at once; None where they can't be linked."""
        with self._turn:
            lent = self._begin(model, artifact, files)
            try:
                self._make(lent)
                for name in files:
                    os.link(f"{artifact}/{name}", f"{lent}/{name}")
            except OSError as error:
                shutil.rmtree(self._forget(model), ignore_errors=True)
                if error.errno not in _UNLINKABLE:
                    raise
                return None
        return lent

    def take_back(self, models: Iterable[str]) -> None:
        """Removes what was lent for them; may take a while."""
        with self._working:
            for model in models:
                with self._turn:
                    lent = self._forget(model) if model in self._lent else None
                if lent is not None:
                    shutil.rmtree(lent, ignore_errors=True)

    def take_back_few(self, model: str) -> bool:
        """As `take_back`, at once; False where that can't be."""
        with self._turn, contextlib.suppress(OSError):
            lent = self._lent.get(model)
            if lent is None or not lent.files:
                return lent is None
            for name in lent.files:
                os.unlink(f"{lent.directory}/{name}")  # noqa: PTH108 - as above
            if len(self._empty) < _EMPTY_KEPT:
                self._empty.append(lent.directory)
            else:
                os.rmdir(lent.directory)  # noqa: PTH106 - as above
            self._forget(model)
            return True
        return False

    def lent_of(self, artifact: Path) -> list[Path]:
        """What was lent of an artifact that leaves the disk: now the caller's to remove."""
        with self._turn:
            models = tuple(self._models.get(str(artifact), ()))
            return [Path(self._forget(model)) for model in models]

    def _begin(self, model: str, artifact: str, files: tuple[str, ...] = ()) -> str:
        if self.is_removed:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if not self._is_there():
            raise ScratchDeleted(errno.ENOENT, os.strerror(errno.ENOENT))
        lent = self._unused()
        self._lent[model] = _Lent(lent, artifact, files)
        self._models.setdefault(artifact, set()).add(model)
        return lent

    def _unused(self) -> str:
        return f"{self.models}/{os.urandom(16).hex()}"

    def _make(self, directory: str) -> None:
        if self._empty:
            with contextlib.suppress(OSError):  # deleted under us
                os.rename(self._empty.pop(), directory)  # noqa: PTH104 - stays text
                return
        os.mkdir(directory)  # noqa: PTH102 - as above

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.models), self._made)  # noqa: PTH116 - as above
        except FileNotFoundError:
            return False

    def _forget(self, model: str) -> str:
        lent = self._lent.pop(model)
        self._models[lent.artifact].discard(model)
        if not self._models[lent.artifact]:
            del self._models[lent.artifact]
        return lent.directory

    def remove(self) -> None:
        """Removes it with all that is in it."""
        with self._turn:
            self.is_removed = True
        with self._working:
            hostile_tree.remove(self.directory)
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
                hostile_tree.remove(left)
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

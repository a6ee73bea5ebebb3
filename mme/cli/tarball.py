"""Writes a model's files as a `model.tar.gz` that any server takes, the same bytes every time.

Decision: members are sorted and carry neither time nor owner, so that packing the same files again
changes no ETag and reloads nothing. What an unpacker would refuse (links, devices, unprintable
names) is refused here, before it travels.
"""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mme.errors import ArtifactRefused


def write_tarball(members: dict[str, Path], target: Path) -> None:
    """Writes `members`, name -> file or directory, to `target`, or nothing. Raises OSError."""
    handle, draft = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with (
            os.fdopen(handle, "wb") as raw,
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for name, path in sorted(members.items()):
                _add(archive, name, path)
        umask = os.umask(0)
        os.umask(umask)
        Path(draft).chmod(0o666 & ~umask)  # as any other new file, where mkstemp makes it private
        Path(draft).replace(target)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def collect(source: Path) -> dict[str, Path]:
    """The members that a directory makes, by name. Raises ArtifactRefused, OSError."""
    members = {_checked_name(path.relative_to(source)): checked(path) for path in _walk(source)}
    if not any(path.is_file() for path in members.values()):
        raise ArtifactRefused(f"{source} holds no file")
    return members


def _walk(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def checked(path: Path) -> Path:
    """The path itself. Raises ArtifactRefused for a link or a device, OSError for nothing."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        raise ArtifactRefused(f"{path} is a link: servers refuse links, put the file itself there")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ArtifactRefused(f"{path} is neither a file nor a directory")
    return path


def _checked_name(path: Path) -> str:
    name = path.as_posix()
    if not name.isprintable():
        raise ArtifactRefused(f"{name!r} holds characters that servers refuse in a name")
    return name


def _add(archive: tarfile.TarFile, name: str, path: Path) -> None:
    entry = tarfile.TarInfo(name)
    if path.is_dir():
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(entry)
        return
    entry.size, entry.mode = path.stat().st_size, 0o644
    with path.open("rb") as content:
        archive.addfile(entry, content)

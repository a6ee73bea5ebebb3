"""Which names may become paths, and what has to be made for them. Pure.

No absolute, `..`, over-long, control-character, non-UTF-8 or repeated names; so a name can't leave
its directory, and no two members write the same file. Directories that the archive implies are
counted like those that it names.
"""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

from mme.errors import ArtifactRefused
from mme.store.tar_header import shown

_NAME_BYTES = 1024
_SEGMENT_BYTES = 255  # what file systems take
_DEPTH = 32


class TarNames:
    """The names of one archive so far.

    Args:
        members_limit: files and directories it may make at most.
    """

    def __init__(self, members_limit: int) -> None:
        self._limit = members_limit
        self._files: set[PurePosixPath] = set()
        self._directories: set[PurePosixPath] = {PurePosixPath()}
        self._named: set[PurePosixPath] = set()

    @property
    def files(self) -> int:
        """Files admitted."""
        return len(self._files)

    def admit_file(self, name: bytes) -> tuple[PurePosixPath, list[PurePosixPath]]:
        """The path of a file, and the directories to make before it, outermost first.

        Raises:
            ArtifactRefused: the name is hostile, or was there before.
        """
        path = _path(name)
        if path in self._files or path in self._directories:
            raise ArtifactRefused(f"Member {shown(name)} comes twice.")
        made = self._make(path.parent, name)
        self._files.add(path)
        self._count()
        return path, made

    def admit_directory(self, name: bytes) -> list[PurePosixPath]:
        """The directories to make for a directory, outermost first.

        Raises:
            ArtifactRefused: the name is hostile, or was there before.
        """
        path = _path(name)
        if path in self._named:
            raise ArtifactRefused(f"Member {shown(name)} comes twice.")
        made = self._make(path, name)
        self._named.add(path)
        self._count()
        return made

    def _make(self, directory: PurePosixPath, name: bytes) -> list[PurePosixPath]:
        lineage = [directory, *directory.parents]
        if any(path in self._files for path in lineage):
            raise ArtifactRefused(f"Member {shown(name)} lies under a member that is a file.")
        made = [path for path in reversed(lineage) if path not in self._directories]
        self._directories.update(made)
        return made

    def _count(self) -> None:
        if len(self._files) + len(self._directories) - 1 > self._limit:
            raise ArtifactRefused(
                f"The archive holds more than {self._limit} members (setting unpack_members_limit)."
            )


def _path(name: bytes) -> PurePosixPath:
    if reason := _refusal(name):
        raise ArtifactRefused(f"Member {shown(name)} {reason}.")
    return PurePosixPath(name.decode())


def _refusal(name: bytes) -> str | None:
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return "has a name that is not UTF-8"
    segments = [segment for segment in text.split("/") if segment not in ("", ".")]
    rules = {
        "has no name": not name,
        "has an absolute name": text.startswith("/"),
        "has a name with '..'": ".." in segments,
        "has a control character in its name": any(
            unicodedata.category(char) == "Cc" for char in text
        ),
        "has too long a name": len(name) > _NAME_BYTES
        or any(len(segment.encode()) > _SEGMENT_BYTES for segment in segments),
        f"lies deeper than {_DEPTH} directories": len(segments) > _DEPTH,
    }
    return next((reason for reason, broken in rules.items() if broken), None)

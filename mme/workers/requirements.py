"""What a model asks to have installed: its requirements file, and the one name for its content.

Models whose requirements read the same share an environment. What a file includes (`-r`, `-c`) is
part of its content; what points into the archive itself (a wheel beside the script) makes it the
archive's own, shared with nobody.
"""

from __future__ import annotations

import hashlib
import re
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILE: Final = Path("code/requirements.txt")
_LIMIT_BYTES = 1 << 20
_INCLUDE = re.compile(r"^\s*(?:-r|-c|--requirement|--constraint)[\s=]+(\S+)")
_OWN = re.compile(
    r"^\s*(?:-e\s|--editable|\.{1,2}/|file:|-f\s|--find-links)|^\s*\S+\.(?:whl|tar\.gz|zip)\s*$"
)


@dataclass(frozen=True, slots=True)
class Requirements:
    """A requirements file; `digest` names its content, this Python and this platform."""

    path: Path
    digest: str
    lines: tuple[str, ...]  # what is asked for, without comments; for people


def find_requirements(directory: Path) -> Requirements | None:
    """The requirements of an extracted artifact, or None where it has none. Blocking.

    Raises:
        ValueError: a file is too large, not text, or leads out of the artifact.
    """
    roots = [directory, *(entry for entry in directory.iterdir() if entry.is_dir())]
    path = next((root / FILE for root in roots if (root / FILE).is_file()), None)
    if path is None:
        return None
    lines = _lines(path, directory.resolve(), ())
    asked = tuple(line for line in lines if line and not _INCLUDE.match(line))
    if not asked:
        return None
    identity = [sys.version, sysconfig.get_platform(), *lines]
    if any(_OWN.match(line) for line in lines):
        identity.append(str(directory))
    digest = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:32]
    return Requirements(path, digest, asked)


def _lines(path: Path, root: Path, above: tuple[Path, ...]) -> list[str]:
    path = path.resolve()
    if not path.is_relative_to(root) or path in above or not path.is_file():
        raise ValueError(f"{path.name} is not a file of the archive")
    if path.stat().st_size > _LIMIT_BYTES:
        raise ValueError(f"{path.name} is larger than {_LIMIT_BYTES} bytes")
    found = []
    for raw in path.read_text().splitlines():
        line = re.sub(r"(^|\s)#.*", "", raw).strip()
        found.append(line)
        if included := _INCLUDE.match(line):
            found += _lines(path.parent / included[1], root, (*above, path))
    return found

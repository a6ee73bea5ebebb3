"""What a model asks to have installed: its requirements file, and the one name for its content.

Models whose requirements read the same share an environment. What a file includes (`-r`, `-c`) is
part of its content; a line that does not name a package of an index makes it the archive's own,
shared with nobody: it may point into the archive itself. Where all lines name packages, or wheels
of the archive, no code need run to install them.
Decision: lines are compared with what is known to be harmless, so that one that uv reads otherwise
than is thought here costs time only.
"""

from __future__ import annotations

import codecs
import hashlib
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILE: Final = Path("code/requirements.txt")
_LIMIT_BYTES = 1 << 20
_INCLUDE = re.compile(r"^\s*(?:-r|-c|--requirement|--constraint)[\s=]+(\S+)")
_NAMED = re.compile(
    r"""
    | (?!\S*\.(whl|zip|t[abglx])) [a-z0-9][a-z0-9._-]* \s* (\[[^]]*\] \s*)? ([<>=!~;\\] .*)?
    | --hash[\s=] .*
    | (-r|-c|--requirement|--constraint) [\s=]+ [\w./-]+  # whose lines count for themselves
    | (-i|--index-url|--extra-index-url) [\s=]+ https?://[^\s$]+
    | --no-index | --pre | (--no-binary|--only-binary) [\s=]+ [\w.,:-]+
    """,
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
_OWN_WHEEL = re.compile(r"(?!.*\.\.)(\./)?[\w.+-]+(/[\w.+-]+)*\.whl", re.ASCII)


@dataclass(frozen=True, slots=True)
class Requirements:
    """A requirements file; `digest` names its content, this Python and this platform.

    `is_plain`: it names packages and wheels only, so it may be that nothing has to be built.
    `needs` are the files of the artifact's directory, relative to it, that installing it takes;
    None: perhaps all.
    """

    path: Path
    directory: Path
    digest: str
    is_plain: bool
    needs: frozenset[Path] | None
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
    root = directory.resolve()
    read = [*_read(path, root, ())]
    lines = [line for _, line in read]
    asked = tuple(line for line in lines if line and not _INCLUDE.match(line))
    if not asked:
        return None
    identity = [sys.version, sysconfig.get_platform(), *lines]
    unnamed = [line for line in lines if not _NAMED.fullmatch(line)]
    if unnamed:
        identity.append(str(directory))
    digest = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:32]
    is_plain = all(map(_OWN_WHEEL.fullmatch, unnamed))
    needs = None if unnamed else frozenset(file.relative_to(root) for file, _ in read)
    return Requirements(path, directory, digest, is_plain, needs, asked)


def _read(path: Path, root: Path, above: tuple[Path, ...]) -> Iterator[tuple[Path, str]]:
    path = path.resolve()
    if not path.is_relative_to(root) or path in above or not path.is_file():
        raise ValueError(f"{path.name} is not a file of the archive")
    if path.stat().st_size > _LIMIT_BYTES:
        raise ValueError(f"{path.name} is larger than {_LIMIT_BYTES} bytes")
    for raw in _text(path.read_bytes()).splitlines() or [""]:
        line = re.sub(r"(^|\s)#.*", "", raw).strip()
        yield path, line
        if included := _INCLUDE.match(line):
            yield from _read(path.parent / included[1], root, (*above, path))


def _text(data: bytes) -> str:
    """As pip and uv read it: Windows' tools begin a file with its encoding's mark."""
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if is_wide else "utf-8-sig")

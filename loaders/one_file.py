"""Which file of a directory is the model, for the loaders that take exactly one."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from loaders.contract import LoadRefused
from loaders.sniff import sniff


def only_file(directory: Path, kinds: tuple[str, ...], names: tuple[str, ...]) -> Path:
    """Gives the one file of these kinds; where there is none, the one of these names.

    Raises:
        LoadRefused: none, or several: which of them is asked only a script could tell.
    """
    files = sorted(path for path in directory.iterdir() if path.is_file() and path.name[0] != ".")
    found = [path for path in files if sniff(path).startswith(kinds)] or [
        path for path in files if any(fnmatchcase(path.name, pattern) for pattern in names)
    ]
    if len(found) != 1:
        listed = ", ".join(path.name[:80] for path in found[:5]) or "none"
        raise LoadRefused(f"Unable to load model: wanted one model file, found {listed}.")
    return found[0]

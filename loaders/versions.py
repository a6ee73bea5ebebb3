"""Folders named by numbers: of the versions of one model in an archive, the highest counts.

TensorFlow Serving and Triton lay their models out so, `{name}/{version}/{file}`, and SageMaker's
TensorFlow estimator as `export/Servo/{version}/{file}`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from loaders.contract import LoadRefused

_DEPTHS = ("", "*/", "*/*/", "*/*/*/")
_SHOWN = 5


def layouts(name: str) -> tuple[str, ...]:
    """Patterns for a file of this name at the root or in folders below it."""
    return tuple(depth + name for depth in _DEPTHS)


def newest(root: Path, name: str) -> Path | None:
    """Finds the file of this name nearest to the root, in the highest version there is.

    Raises:
        LoadRefused: several models, not several versions of one.
    """
    for pattern in layouts(name):
        if found := [path for path in root.glob(pattern) if path.is_file()]:
            models = {_model_of(path.relative_to(root)) for path in found}
            if len(models) > 1:
                raise LoadRefused(f"Unable to load model: the archive holds {_listed(models)}.")
            return max(found, key=lambda path: _version_of(path.relative_to(root)))
    return None


def _model_of(path: Path) -> tuple[str, ...]:
    return tuple("" if _is_version(part) else part for part in path.parts)


def _version_of(path: Path) -> list[int]:
    return [int(part) for part in path.parts if _is_version(part)]


def _is_version(part: str) -> bool:
    return part.isascii() and part.isdecimal()


def _listed(models: Iterable[tuple[str, ...]]) -> str:
    names = ["/".join(part for part in model[:-1] if part)[:60] for model in sorted(models)]
    return f"several models: {', '.join(names[:_SHOWN])}"

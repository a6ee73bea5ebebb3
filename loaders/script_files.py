"""Which file of an archive is its script, where its modules lie, what it will import: runs nothing.

Decisions: SAGEMAKER_PROGRAM and SAGEMAKER_SUBMIT_DIRECTORY are set for a whole server, so that they
count for an archive only where it holds what they name; else it is `code/inference.py`. A program
in a subfolder finds its neighbours first, as `python src/serve.py` would, then what lies in `code`
and `code/lib`.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROGRAM, SUBMIT_DIRECTORY = "SAGEMAKER_PROGRAM", "SAGEMAKER_SUBMIT_DIRECTORY"
SAGEMAKER_MODEL_DIR = "/opt/ml/model"  # where SageMaker's containers have the archive
_DEFAULT_PROGRAM, _DEFAULT_DIRECTORY = "inference.py", "code"
_HEAVY = frozenset(
    {"catboost", "keras", "lightgbm", "onnxruntime", "pandas", "scipy", "sklearn"}
    | {"tensorflow", "torch", "transformers", "xgboost"}
)
_FILES_READ = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """One archive's own code."""

    entry: Path
    search: tuple[Path, ...]  # where `import x` looks, before what is installed

    def frameworks(self) -> tuple[str, ...]:
        """Names the large packages that its files import, so that they are loaded beforehand."""
        named: set[str] = set()
        for path in self._files():
            named |= _imported(path) & _HEAVY
        return tuple(sorted(name for name in named if not self._is_its_own(name)))

    def _files(self) -> list[Path]:
        files = {path for folder in self.search for path in folder.rglob("*.py") if path.is_file()}
        return sorted(files)[:_FILES_READ]

    def _is_its_own(self, name: str) -> bool:
        return any(
            (folder / name).is_dir() or (folder / f"{name}.py").exists() for folder in self.search
        )


def find_script(root: Path) -> Script | None:
    """Looks for the script of an archive extracted at `root`; None where there is none."""
    for folder in _folders(root):
        for program in _programs():
            entry = folder / program
            if entry.is_file():
                wanted = dict.fromkeys((entry.parent, folder, folder / "lib"))
                return Script(entry=entry, search=tuple(path for path in wanted if path.is_dir()))
    return None


def _folders(root: Path) -> Iterator[Path]:
    submitted = os.environ.get(SUBMIT_DIRECTORY, "")
    inside = submitted.removeprefix(SAGEMAKER_MODEL_DIR).lstrip("/") or "."
    absolute = submitted.startswith("/") and not submitted.startswith(SAGEMAKER_MODEL_DIR)
    if submitted and not absolute and _is_inside(inside):
        yield root / inside
    yield root / _DEFAULT_DIRECTORY


def _programs() -> Iterator[str]:
    program = os.environ.get(PROGRAM, "")
    if program.endswith(".py") and _is_inside(program):
        yield program
    yield _DEFAULT_PROGRAM


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return not path.startswith("/") and ".." not in parts


def _imported(path: Path) -> set[str]:
    """The first names of all imports in a file, those inside functions too."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()  # importing it will tell what is wrong, if it is ever imported
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names

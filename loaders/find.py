"""A table: what a directory holds -> which loader. A new framework is one file and one row.

Decisions: contents decide before names (`sniff.py`); a name alone still picks the loader, whose
refusal then says what is wrong with the file. A folder packed whole is looked into, one level.
A model that brings a script is the script's, whatever else it holds.
Frameworks are imported by their loaders, on demand. `python -m loaders.find DIRECTORY` prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import filter as fnfilter
from importlib import import_module
from pathlib import Path
from typing import cast

from loaders.contract import Loader, LoadRefused
from loaders.script_files import SUBMIT_DIRECTORY, find_script
from loaders.sniff import (
    CATBOOST_KINDS,
    LIGHTGBM_KINDS,
    SKLEARN_KINDS,
    TORCH_KINDS,
    XGBOOST_KINDS,
    sniff,
)
from loaders.versions import layouts

_LISTED = 10
_RETIRED = {
    "*-symbol.json": "MXNet, which is retired. Convert it to ONNX where MXNet is still installed, "
    "with mxnet.onnx.export_model(symbol, params, [shape], [type], 'model.onnx'), and pack that."
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One framework."""

    framework: str
    module: str  # holds LOADER
    kinds: tuple[str, ...]  # beginnings of what sniff() says
    names: tuple[str, ...]  # file names that tell where the contents do not
    accepts: str  # for people
    layouts: tuple[str, ...] = ()  # where in folders the file is that tells


ROWS = (
    Row(
        framework="xgboost",
        module="loaders.xgboost_loader",
        kinds=XGBOOST_KINDS,
        names=("xgboost-model", "*.ubj", "*.bst"),
        accepts="xgboost (saved as .json or .ubj under any name, xgboost-model, or a pickle)",
    ),
    Row(
        framework="torch",
        module="loaders.torch_loader",
        kinds=TORCH_KINDS,
        names=("*.pt", "*.pth", "*.pt2"),
        accepts="torch (TorchScript model.pt or .pth, or a torch.export .pt2)",
    ),
    Row(
        framework="onnx",
        module="loaders.onnx_loader",
        kinds=(),  # nothing in its first bytes is its own
        names=("*.onnx",),
        accepts="onnx (model.onnx or another .onnx, or Triton's {name}/{version}/model.onnx)",
        layouts=layouts("model.onnx"),
    ),
    Row(
        framework="tensorflow",
        module="loaders.tensorflow_loader",
        kinds=(),
        names=("saved_model.pb", "*.keras"),
        accepts="tensorflow (saved_model.pb, bare or in {name}/{version}/, or a .keras)",
        layouts=layouts("saved_model.pb"),
    ),
    Row(
        framework="sklearn",
        module="loaders.sklearn_loader",
        kinds=SKLEARN_KINDS,
        names=("model.pkl", "model.pickle", "*.joblib", "*.skops"),
        accepts="scikit-learn (a pickle or joblib file of an estimator, or .skops)",
    ),
    Row(
        framework="lightgbm",
        module="loaders.lightgbm_loader",
        kinds=LIGHTGBM_KINDS,
        names=("model.txt",),
        accepts="lightgbm (a text model under any name, or a pickle)",
    ),
    Row(
        framework="catboost",
        module="loaders.catboost_loader",
        kinds=CATBOOST_KINDS,
        names=("*.cbm",),
        accepts="catboost (.cbm, JSON, or a pickle)",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Which loader takes a directory, and why."""

    loader: Loader
    root: Path  # what to give to `loader.load`
    took_for: str  # e.g. "model.ubj: xgboost ubj"


def find_loader(directory: Path) -> Found:
    """Looks for the loader of an extracted artifact; imports no framework.

    Raises:
        LoadRefused: nothing here is recognised; lists what was found and what would be accepted.
    """
    with os.scandir(directory) as found:
        entries = list(found)
    if _is_flat(entries):
        return _find(directory, [entry.name for entry in entries if entry.is_file()])
    directory = directory.resolve()
    inner = _root(directory)
    roots = (directory,) if inner is directory else (directory, inner.resolve())
    for root in roots:
        script = find_script(root)
        if script is not None:
            made: Loader = import_module("loaders.script_loader").ScriptLoader(script, root)
            took_for = f"{script.entry.relative_to(root)}: script"
            return Found(loader=made, root=root, took_for=took_for)
    return find_framework(inner)


def find_framework(root: Path) -> Found:
    """Looks for the loader of what lies in `root` besides a script. Raises LoadRefused."""
    return _find(root, [path.name for path in _visible(root) if path.is_file()])


def _find(root: Path, files: Iterable[str]) -> Found:
    kinds = {name: sniff(root / name) for name in sorted(files) if not _is_hidden(name)}
    for look in (_by_contents, _by_name, _by_place):
        for row in ROWS:
            if took_for := look(row, root, kinds):
                return _found(row, root, took_for)
    for pattern, advice in _RETIRED.items():
        for name in fnfilter(kinds, pattern):
            raise LoadRefused(f"{name[:60]} is a model of {advice}")
    raise LoadRefused(
        f"No loader recognises this model: found {_listing(root, kinds)}. {_wanted()}"
    )


def _by_contents(row: Row, _: Path, kinds: dict[str, str]) -> str | None:
    found = (f"{name}: {kind}" for name, kind in kinds.items() if kind.startswith(row.kinds))
    return next(found, None)


def _by_name(row: Row, _: Path, kinds: dict[str, str]) -> str | None:
    found = (f"{name}: by its name" for at in row.names for name in fnfilter(sorted(kinds), at))
    return next(found, None)


def _by_place(row: Row, root: Path, _: dict[str, str]) -> str | None:
    found = (path for pattern in row.layouts for path in root.glob(pattern))
    return next((f"{path.relative_to(root)}: by its place" for path in found), None)


def loader_by_name(name: str) -> Loader:
    """Gives the loader of one framework, e.g. "xgboost".

    Raises:
        LoadRefused: there is none of this name.
    """
    for row in ROWS:
        if row.framework == name:
            return cast("Loader", import_module(row.module).LOADER)
    known = ", ".join(row.framework for row in ROWS)
    raise LoadRefused(f"There is no loader named {name[:40]!r}; there are {known}.")


def _found(row: Row, root: Path, took_for: str) -> Found:
    return Found(loader=loader_by_name(row.framework), root=root, took_for=took_for)


def _is_flat(entries: Iterable[os.DirEntry[str]]) -> bool:
    """Whether a script, or another root, would have to lie in a folder that is not there."""
    return SUBMIT_DIRECTORY not in os.environ and not any(entry.is_dir() for entry in entries)


def _root(directory: Path) -> Path:
    entries = _visible(directory)
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else directory


def _visible(directory: Path) -> list[Path]:
    names = (name for name in os.listdir(directory) if not _is_hidden(name))  # noqa: PTH208 - at every load
    return [directory / name for name in sorted(names)]


def _is_hidden(name: str) -> bool:
    """Says so of dot-files and of what macOS adds to archives."""
    return name[0] == "." or name == "__MACOSX"


def _listing(root: Path, kinds: dict[str, str]) -> str:
    entries = _visible(root)
    names = [f"{path.name[:60]} ({kinds.get(path.name, 'a folder')})" for path in entries]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (", ".join(names[:_LISTED]) or "nothing") + more


def _wanted() -> str:
    accepted = [row.accepts for row in ROWS]
    return f"Accepted are: {'; '.join(accepted)}; and any model with code/inference.py."


def main() -> int:
    """Prints what a directory would be taken for, as JSON; 1 where nothing takes it."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():  # noqa: PLR2004 - program and argument
        sys.stdout.write(json.dumps({"error": "usage: python -m loaders.find DIRECTORY"}) + "\n")
        return 1
    try:
        found = find_loader(Path(sys.argv[1]))
    except LoadRefused as fault:
        sys.stdout.write(json.dumps({"error": str(fault)}) + "\n")
        return 1
    answer = {
        "framework": found.loader.name,
        "root": str(found.root),
        "took_for": found.took_for,
    }
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

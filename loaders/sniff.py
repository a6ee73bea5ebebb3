"""What a model file is, by its first bytes: nothing is loaded, and nothing in it is run.

Decision: contents before names, because people call their files anything; a name only helps where
the contents tell nothing. A pickle is named by the first class it mentions, which is the outermost.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from pathlib import Path

from loaders.pickles import first_bytes

XGBOOST_KINDS = ("xgboost ", "pickle of xgboost")  # what the names of its kinds start with
TORCH_KINDS = ("torchscript", "torch ")
SKLEARN_KINDS = ("skops", "pickle of sklearn.", "pickle of imblearn.")
LIGHTGBM_KINDS = ("lightgbm ", "pickle of lightgbm.")
CATBOOST_KINDS = ("catboost ", "pickle of catboost.")
_FIRST_BYTES = {
    b"binf": "xgboost binary",
    bytes.fromhex("80028a0a6cfc9c46f9206aa850192e"): "torch weights",  # before it was a zip
    b"tree\nversion=": "lightgbm text",
    b"CBM1": "catboost cbm",
}
_CATBOOST_JSON = re.compile(rb'\{\s*"(ctr_data|features_info)"')  # its keys come sorted
_PLUMBING = frozenset({"copyreg", "copy_reg"})  # what old protocols name before the class
_TEXT_OPCODES = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"})


def sniff(path: Path) -> str:
    """Names what the file holds.

    Returns:
        "xgboost json", "xgboost ubj", "xgboost binary", "torchscript", "torch export",
        "torch weights", "skops", "lightgbm text", "catboost cbm", "catboost json",
        "pickle of CLASS" (joblib's files too, compressed or not), "pickle", "zip", "json", "empty"
        or "unknown".
    """
    head = first_bytes(path)
    if not head and not path.stat().st_size:
        return "empty"
    for first, kind in _FIRST_BYTES.items():
        if head.startswith(first):
            return kind
    if head.startswith(b"{"):
        return _document(head)
    if head.startswith(b"PK\x03\x04"):
        return _archive(path)
    if head[:1] == b"\x80" or head[:1] in b"(c":  # the latter two: protocol 0
        return _pickle(head)
    return "unknown"


def _document(head: bytes) -> str:
    if _CATBOOST_JSON.match(head):
        return "catboost json"
    if b"learner" not in head:
        return "json" if head[1:2] != b"L" else "unknown"
    return "xgboost ubj" if head[1:2] == b"L" else "xgboost json"


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "zip"
    if "schema.json" in names:
        return "skops"
    members = {name.partition("/")[2] for name in names}
    if "constants.pkl" in members:
        return "torchscript"
    if "archive_format" in members or "serialized_exported_program.json" in names:
        return "torch export"
    return "torch weights" if "data.pkl" in members else "zip"


def _pickle(head: bytes) -> str:
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(head):
            if opcode.name in _TEXT_OPCODES:
                texts.append(str(argument))
            elif opcode.name == "GLOBAL":
                module, _, name = str(argument).partition(" ")
                if module not in _PLUMBING:
                    return f"pickle of {module}.{name}"
            elif opcode.name == "STACK_GLOBAL":
                return f"pickle of {'.'.join(texts[-2:])}"
    except ValueError:  # cut off, or no pickle
        return "unknown"
    return "pickle"

"""What a model file is, by its first bytes: nothing is loaded, and nothing in it is run.

Decision: contents before names, because people call their files anything; a name only helps where
the contents tell nothing. A pickle is named by the first class it mentions, which is the outermost.
"""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path

XGBOOST_KINDS = ("xgboost ", "pickle of xgboost")  # what the names of its kinds start with
TORCH_KINDS = ("torchscript", "torch ")
_HEAD_BYTES = 64 * 1024
_LEGACY_TORCH = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
_TEXT_OPCODES = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"})


def sniff(path: Path) -> str:
    """Names what the file holds.

    Returns:
        "xgboost json", "xgboost ubj", "xgboost binary", "torchscript", "torch export",
        "torch weights", "pickle of CLASS", "pickle", "zip", "json", "empty" or "unknown".
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        return "empty"
    if head.startswith((b"{", b"binf")):
        return _document(head)
    if head.startswith(b"PK\x03\x04"):
        return _archive(path)
    if head.startswith(_LEGACY_TORCH):
        return "torch weights"
    if head[:1] == b"\x80" or head[:1] in b"(c":  # the latter two: protocol 0
        return _pickle(head)
    return "unknown"


def _document(head: bytes) -> str:
    if head.startswith(b"binf"):
        return "xgboost binary"
    if b"learner" not in head:
        return "json" if head[1:2] != b"L" else "unknown"
    return "xgboost ubj" if head[1:2] == b"L" else "xgboost json"


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "zip"
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
                return f"pickle of {str(argument).replace(' ', '.')}"
            elif opcode.name == "STACK_GLOBAL":
                return f"pickle of {'.'.join(texts[-2:])}"
    except ValueError:  # cut off, or no pickle
        return "unknown"
    return "pickle"

"""Judges a LightGBM text model before LightGBM reads it: is it whole, do its trees hold together.

Decision: LightGBM's own reader ends the process on most files that are cut short or changed in one
place (of 150 small changes to a model, 40 did), and walks a tree wherever its children point. A
worker is shared by many tenants, so one broken file must not take it down. What follows the trees
(importances, how it was trained) tells predictions nothing, crashes LightGBM when it is cut, and is
left out. Formats v3 (2.3 and 3.x) and v4 are read: both give the numbers they gave when written.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Section = dict[str, str]
Indices = NDArray[np.int64]

_VERSIONS = ("v3", "v4")
_REQUIRED = ("num_class", "num_tree_per_iteration", "label_index", "max_feature_idx")
_FLAGS = frozenset({"average_output"})
_INTEGERS = re.compile(r"(?:-?\d{1,10} )*-?\d{1,10}", re.ASCII)
_FLOAT = r"-?(?:\d+(?:\.\d*)?(?:e[-+]?\d{1,4})?|inf|nan)"
_FLOATS = re.compile(rf"(?:{_FLOAT} )*{_FLOAT}", re.ASCII)
_AS_INTEGERS = msgspec.json.Decoder(list[Annotated[int, msgspec.Meta(ge=-(1 << 31), lt=1 << 32)]])
_AS_FLOATS = msgspec.json.Decoder(list[float])
_OBJECTIVE = re.compile(r"\w+(?: [\w:.+-]+)*")
_CLASSES = re.compile(r"num_class:(\d+)")
_END = "end of trees\n"
_CATEGORICAL = 1  # a bit of decision_type
_BIT = 1 << 32
_SMALLEST = sys.float_info.min


def sound_part(text: str) -> str:
    """Gives what LightGBM needs for predicting, everything of it checked.

    Raises:
        ValueError: cut short, malformed, of a format not known here, or trees that lead nowhere.
    """
    head, gap, rest = text.partition("\n\n")
    if not gap:
        raise ValueError("it is cut short")
    header = _section(head.removeprefix("tree\n"))
    if header.get("version") not in _VERSIONS:
        raise ValueError(f"format {header.get('version', 'of no version')[:20]!r} is not read")
    features = _check_header(header)
    sizes = _integers(header, "tree_sizes", None) if header.get("tree_sizes") else np.array([], int)
    if len(sizes) % int(header["num_tree_per_iteration"]):
        raise ValueError("a round of trees is not whole")
    start = 0
    for number, size in enumerate(sizes.tolist()):
        block, start = rest[start : start + size], start + size
        first, _, body = block.partition("\n")
        if size <= 0 or len(block) != size or first != f"Tree={number}":
            raise ValueError(f"tree {number} is not where it should be")
        _check_tree(_section(body.strip("\n")), features)
    if not rest[start:].startswith(_END):
        raise ValueError("its trees have no end")
    if "\nparameters:\n" in rest[start:] and "\nend of parameters\n" not in rest[start:]:
        raise ValueError("it is cut short")
    return f"{head}\n\n{rest[:start]}{_END}"


def _section(text: str) -> Section:
    fields: Section = {}
    for line in text.split("\n"):
        name, equals, value = line.partition("=")
        if name in fields or not (equals or name in _FLAGS):
            raise ValueError(f"the line {line[:40]!r} makes no sense")
        fields[name] = value
    return fields


def _check_header(header: Section) -> int:
    """Gives the number of features."""
    for name in _REQUIRED:
        _integers(header, name, 1)
    features = int(header["max_feature_idx"]) + 1
    for name in ("feature_names", "feature_infos"):
        if len(header.get(name, "").split(" ")) != features:
            raise ValueError(f"{name} are not as many as the features")
    classes, trees = int(header["num_class"]), int(header["num_tree_per_iteration"])
    if classes < 1 or trees not in {1, classes}:
        raise ValueError("the trees do not belong to the model's classes")
    objective = header.get("objective", "custom")
    named = _CLASSES.search(objective)
    if not _OBJECTIVE.fullmatch(objective) or (named and int(named[1]) != classes):
        raise ValueError("the objective does not fit the model's classes")
    return features


def _check_tree(tree: Section, features: int) -> None:
    leaves = int(_integers(tree, "num_leaves", 1)[0])
    categories = int(_integers(tree, "num_cat", 1)[0])
    if leaves < 1 or categories < 0:
        raise ValueError("a tree has no leaves")
    _floats(tree, "leaf_value", leaves)
    if int(tree.get("is_linear", "0")):
        _check_linear(tree, leaves, features)
    _floats(tree, "shrinkage", 1)
    if leaves == 1:
        return
    nodes = leaves - 1
    splits, left, right, kinds = (
        _integers(tree, name, nodes)
        for name in ("split_feature", "left_child", "right_child", "decision_type")
    )
    _floats(tree, "threshold", nodes)
    _check_optional(tree, nodes, leaves)
    if not 0 <= splits.min() <= splits.max() < features:
        raise ValueError("a tree splits on a feature that the model does not have")
    _check_children(np.concatenate([left, right]), leaves)
    if not np.array_equal(kinds, kinds.astype(np.int8)):
        raise ValueError("a tree decides in a way not known")
    _check_categories(tree, kinds, categories)


def _check_optional(tree: Section, nodes: int, leaves: int) -> None:
    for name, length in (
        ("split_gain", nodes),
        ("internal_value", nodes),
        ("internal_weight", nodes),
        ("internal_count", nodes),
        ("leaf_weight", leaves),
        ("leaf_count", leaves),
    ):
        if name in tree:
            _floats(tree, name, length)


def _check_children(children: Indices, leaves: int) -> None:
    """Every node but the root has one parent, so that no walk from the root comes back."""
    if sorted(children.tolist()) != [*range(-leaves, 0), *range(1, leaves - 1)]:
        raise ValueError("a tree's children are not each there once")


def _check_categories(tree: Section, kinds: Indices, categories: int) -> None:
    categorical = (kinds & _CATEGORICAL).astype(bool)
    if not categories:
        if categorical.any():
            raise ValueError("a tree decides by categories that it does not have")
        return
    bounds = _integers(tree, "cat_boundaries", categories + 1)
    words = _integers(tree, "cat_threshold", None)
    if bounds[0] != 0 or bounds[-1] != len(words) or (np.diff(bounds) < 0).any():
        raise ValueError("a tree's categories have no place")
    if not 0 <= words.min() <= words.max() < _BIT:
        raise ValueError("a tree's categories are no sets")
    used = np.array(tree["threshold"].split(" "), dtype=float)[categorical]
    if not np.isin(used, np.arange(categories)).all():
        raise ValueError("a tree decides by categories that it does not have")


def _check_linear(tree: Section, leaves: int, features: int) -> None:
    _floats(tree, "leaf_const", leaves)
    counts = _integers(tree, "num_features", leaves)
    if counts.min() < 0:
        raise ValueError("a linear leaf has fewer features than none")
    used = _spaced(tree, "leaf_features", _INTEGERS, int(counts.sum()))
    factors = _spaced(tree, "leaf_coeff", _FLOATS, int(counts.sum()))
    if not all(0 <= int(word) < features for word in used):
        raise ValueError("a linear leaf uses a feature that the model does not have")
    if not all(map(_is_normal, [*tree["leaf_const"].split(), *factors])):
        raise ValueError("a linear leaf has a factor too large or too small")


def _spaced(tree: Section, name: str, pattern: re.Pattern[str], length: int) -> list[str]:
    """Numbers with any blanks between them."""
    words = tree.get(name, "").split()
    if len(words) != length or (words and not pattern.fullmatch(" ".join(words))):
        raise ValueError(f"{name} is not as many numbers as it should be")
    return words


def _is_normal(word: str) -> bool:
    """Whether the C++ function that reads these takes the number; what it does not ends it all."""
    digits = word.partition("e")[0].strip("-0.")
    return not digits or _SMALLEST <= abs(float(word)) < math.inf


def _integers(section: Section, name: str, length: int | None) -> Indices:
    return np.array(_numbers(section, name, length, _INTEGERS, _AS_INTEGERS), dtype=np.int64)


def _floats(section: Section, name: str, length: int) -> None:
    _numbers(section, name, length, _FLOATS, _AS_FLOATS)


def _numbers(
    section: Section,
    name: str,
    length: int | None,
    pattern: re.Pattern[str],
    decoder: msgspec.json.Decoder[Any],
) -> Sequence[Any]:
    """The numbers of a line. A JSON parser tells them five times as fast as a pattern does."""
    text = section.get(name, "")
    if not text or not text.isprintable() or length not in {None, text.count(" ") + 1}:
        raise ValueError(f"{name} is not as many numbers as it should be")
    try:
        numbers: Sequence[Any] = decoder.decode(f"[{text.replace(' ', ',')}]")
    except msgspec.MsgspecError as exc:
        if not pattern.fullmatch(text):  # inf and nan are no JSON
            raise ValueError(f"{name} is not as many numbers as it should be") from exc
        numbers = text.split(" ")
    return numbers

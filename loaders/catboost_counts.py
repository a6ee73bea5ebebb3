"""Judges what a CatBoost .cbm file counts of its categories: hash tables and the counts they index.

Decision: CatBoost reads this part unchecked. A count is found by a hash, its index is believed, and
a search ends at an empty place; so indices have to lie within the counts, and a place has to be
empty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loaders.flatbuffers import Table

_SIZE_BYTES = 4
_PLACE = np.dtype([("hash", "<u8"), ("index", "<u4")])
_EMPTY = 2**64 - 1
_CLASSES = frozenset({0, 1})  # kinds that count a category's rows for each class of the target
_MEANS = frozenset({2, 3})
_COUNTERS = frozenset({4, 5})
_MEAN_BYTES = 8
_COUNT_BYTES = 4
_PAIR = 2

Key = tuple[bytes, bytes, bytes, int, int]


def check_counts(data: bytes, wanted: Sequence[Table]) -> None:
    """Checks all tables in `data`, and that those that the trees want are among them.

    Raises:
        ValueError: cut short, or something leads out of its table.
    """
    classes: dict[Key, int] = {}
    at = _SIZE_BYTES
    for _ in range(_size(data, 0)):
        size = _size(data, at)
        at += _SIZE_BYTES + size
        if at > len(data):
            raise ValueError("it is cut short")
        table = Table.root(data[at - size : at])
        classes[_key(table.table(0))] = _check_table(table)
    for ctr in wanted:
        key = _key(ctr.table(0))
        if key not in classes or not 0 <= ctr.integer(1, 0) < classes[key]:
            raise ValueError("a category's counts are not there")


def _check_table(table: Table) -> int:
    """Gives the number of classes counted."""
    kind = table.table(0).byte(1)
    places = table.needed_array(1, "u1")
    counts_bytes = len(table.needed_array(2, "u1"))
    classes = table.integer(4, 0)
    if kind in _CLASSES:
        if classes < 1:
            raise ValueError("counts are of no class")
        item_bytes = _COUNT_BYTES * max(classes, _PAIR)
    elif kind in _MEANS | _COUNTERS:
        item_bytes = _MEAN_BYTES if kind in _MEANS else _COUNT_BYTES
    else:
        raise ValueError(f"counts of kind {kind} are not known")
    if not len(places) or len(places) % _PLACE.itemsize:
        raise ValueError("a hash table is cut short")
    table_of_hashes = places.view(_PLACE)
    used = table_of_hashes[table_of_hashes["hash"] != _EMPTY]
    length = len(table_of_hashes)
    if length & (length - 1) or len(used) == length:
        raise ValueError("a search in a hash table would not end")
    if len(used) and (int(used["index"].max()) + 1) * item_bytes > counts_bytes:
        raise ValueError("a category's counts lie outside of the table")
    return classes if kind in _CLASSES else 2**31


def _key(base: Table) -> Key:
    features = base.table(0)
    parts = (
        features.needed_array(field, kind) for field, kind in ((0, "<i4"), (1, "<i8"), (2, "<i8"))
    )
    categories, floats, one_hots = (part.tobytes() for part in parts)
    return categories, floats, one_hots, base.byte(1), base.integer(2, 0)


def _size(data: bytes, at: int) -> int:
    if at + _SIZE_BYTES > len(data):
        raise ValueError("it is cut short")
    return int.from_bytes(data[at : at + _SIZE_BYTES], "little")

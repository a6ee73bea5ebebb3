"""What lies in an artifact, where that is a few plain files: one look, for all who would take one.

Decision: most models are a file or two. What they may ask to have installed, what they are like and
how they are put before a worker is told by their names and sizes alone; anything else is looked
through in a thread, by each for itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path

_FEW = 16


def few_files(directory: Path) -> Mapping[str, int] | None:
    """The sizes of its files by their names; takes a moment.

    None where that is not all there is to it: it holds nothing, many files, anything but plain
    ones, or can't be read.
    """
    with suppress(OSError), os.scandir(directory) as found:
        entries = list(islice(found, _FEW + 1))
        if len(entries) <= _FEW and all(entry.is_file(follow_symlinks=False) for entry in entries):
            return {entry.name: entry.stat().st_size for entry in entries} or None
    return None

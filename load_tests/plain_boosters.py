"""Holds boosters in a plain process and tells what each takes: the measure for a server's density.

`python -m load_tests.plain_boosters COUNT FILE...` reads the files in turn until there are COUNT.
Nothing is trimmed or tuned; the first booster's memory, which is the framework's, is not counted.
"""

from __future__ import annotations

import os
import sys
from itertools import cycle, islice

import xgboost

from load_tests.processes import anonymous_bytes


def main() -> None:
    """Prints bytes of private memory a booster."""
    count, files = int(sys.argv[1]), sys.argv[2:]
    held = [_read(files[0])]
    before_bytes = anonymous_bytes(os.getpid())
    held += [_read(file) for file in islice(cycle(files), count)]
    print((anonymous_bytes(os.getpid()) - before_bytes) / count)


def _read(file: str) -> xgboost.Booster:
    booster = xgboost.Booster({"nthread": 1})
    with open(file, "rb") as saved:  # noqa: PTH123 - as a user would
        booster.load_model(bytearray(saved.read()))
    return booster


if __name__ == "__main__":
    main()

"""Words of libraries and models, made fit for a client: without this machine's directories.

Decision: of a path its last part is kept, which says what its owner has to know. A path is what
begins with a directory that there is in `/`, so that a script's own `/v1/items` stays.
"""

from __future__ import annotations

import os
import re

_LIMIT_CHARACTERS = 10_000
_PATH = re.compile(r"(?<![\w.])/([^\s/'\":,;()<>]+)/(?:[^\s/'\":;()<>]+/)*([^\s/'\":,;()<>]*)")
_WHO = re.compile(r"(?<=://)[^\s/@'\"]+@")


def without_paths(text: str) -> str:
    """The beginning of `text`, without directories of this machine and who may use a URL."""
    return _PATH.sub(_last_part, _WHO.sub("", text[:_LIMIT_CHARACTERS]))


def _last_part(found: re.Match[str]) -> str:
    return found[2] if found[1] in _TOP else found[0]


def _top() -> frozenset[str]:
    try:
        return frozenset(os.listdir("/"))  # noqa: PTH208 - names are all that is needed
    except OSError:
        return frozenset(("bin", "etc", "home", "lib", "mnt", "opt", "root", "srv", "tmp", "usr"))


_TOP = _top()  # once, and before a sandbox may forbid it

"""A check that each content passes once a process, so that a model that comes back is cheap.

Decision: contents are told apart by a cryptographic digest, which costs a small part of the check,
and not by names or times, which whoever writes the files could choose. SHA-256, for which most
processors have instructions: half of what BLAKE2 takes there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

_KEPT = 10_000


class Checked:
    """Calls `check` for what it has not passed yet; what fails is never kept.

    Args:
        check: raises where the bytes are not sound.
        kept: contents to remember at most; the oldest is forgotten first.
    """

    def __init__(self, check: Callable[[bytes], None], kept: int = _KEPT) -> None:
        self._check = check
        self._kept = kept
        self._passed: dict[bytes, None] = {}

    def __call__(self, data: bytes) -> bytes:
        """The content's digest. Raises what the check raises."""
        digest = hashlib.sha256(data).digest()
        if digest in self._passed:
            return digest
        self._check(data)
        self._passed[digest] = None
        if len(self._passed) > self._kept:
            del self._passed[next(iter(self._passed))]
        return digest

"""Is an answer the right one: its numbers, compared with the offline prediction's.

Decision: a body that was compared once and found right is right again when it comes again byte for
byte; this keeps the check on every answer without making the generator the bottleneck.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_RELATIVE = 1e-6
_ABSOLUTE = 1e-6  # single precision leaves no more of a logit near zero
_BETWEEN = re.compile(r"[\s,]+")
_KNOWN_LIMIT = 64  # a batch of another size may round differently, so that there are a few


class Checker:
    """What one question may be answered with.

    Args:
        expected: the numbers.
        pattern: finds them in an answer, as group 1; empty: the answer has nothing else.
    """

    def __init__(self, expected: Sequence[float], pattern: str = "") -> None:
        self._expected = expected
        self._pattern = re.compile(pattern or "(?s)(.*)")
        self._known: set[bytes] = set()

    def is_right(self, body: bytes) -> bool:
        """Whether `body` is CSV of the expected numbers, each within a millionth."""
        if body in self._known:
            return True
        right = self._compare(body)
        if right and len(self._known) < _KNOWN_LIMIT:
            self._known.add(body)
        return right

    def _compare(self, body: bytes) -> bool:
        try:
            found = self._pattern.search(body.decode())
            words = _BETWEEN.split(found[1].strip()) if found else ()
            numbers = [float(word) for word in words]
        except ValueError:  # UnicodeDecodeError is one, too
            return False
        return len(numbers) == len(self._expected) and all(
            math.isclose(number, wanted, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
            for number, wanted in zip(numbers, self._expected, strict=True)
        )

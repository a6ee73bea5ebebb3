"""How much memory a model will want: what its content took last time, or a guess.

The guess is the artifact's bytes on disk times how much models grew lately, a maximum that decays,
with a margin: a reservation too small costs a second load, one too large only room for a moment.
"""

from __future__ import annotations

from mme.domain import ArtifactVersion

_FIRST_RATIO = 2.0
_DECAY = 0.05
_MARGIN = 1.2
_KNOWN_MARGIN = 1.02  # two measurements of one model differ a little
_FLOOR_BYTES = 64 * 1024
_LEARNED_LIMIT = 100_000


class SizeEstimates:
    """Sizes learned per content, and the growth from disk to memory."""

    def __init__(self) -> None:
        self._learned: dict[str, int] = {}
        self._ratio = _FIRST_RATIO

    def estimate(self, version: ArtifactVersion, unpacked_bytes: int, limit_bytes: int) -> int:
        """Bytes to reserve for a load.

        Args:
            version: what is to be loaded.
            unpacked_bytes: its size on disk, which it will want in any case.
            limit_bytes: a guess goes no higher; what is known does.
        """
        learned = self._learned.get(version.digest)
        if learned is not None:
            return max(_FLOOR_BYTES, int(learned * _KNOWN_MARGIN))
        guess = max(_FLOOR_BYTES, int(unpacked_bytes * self._ratio * _MARGIN))
        return max(unpacked_bytes, min(guess, limit_bytes))

    def learn(self, version: ArtifactVersion, unpacked_bytes: int, resident_bytes: int) -> None:
        """Takes in what a load has taken."""
        self._learned.pop(version.digest, None)
        self._learned[version.digest] = resident_bytes
        if len(self._learned) > _LEARNED_LIMIT:
            del self._learned[next(iter(self._learned))]
        if unpacked_bytes >= _FLOOR_BYTES:
            ratio = resident_bytes / unpacked_bytes
            self._ratio = max(ratio, self._ratio + _DECAY * (ratio - self._ratio))

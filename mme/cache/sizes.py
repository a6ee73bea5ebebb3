"""How much memory a load will want: what its content took last time, or a guess.

What is reserved is the peak of the load, settled down to what stays once it is measured. The guess
is the artifact's bytes on disk times how much models of its framework grew lately, a maximum that
decays, with a margin: a reservation too small costs a second load, one too large only room for a
moment. Which framework will load an artifact is learned from the name of its largest file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath

from mme.domain import ArtifactVersion

_FIRST_RATIO = 2.0
_DECAY = 0.05
_MARGIN = 1.2
_KNOWN_MARGIN = 1.02  # two measurements of one model differ a little
_FLOOR_BYTES = 64 * 1024
_LEARNED_LIMIT = 100_000
_ANY = ""  # in place of a framework's name: all of them


def likeness(directory: Path) -> str:
    """What artifacts of one kind have in common: what their largest file is called; blocking."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size, default=directory)
    return largest.suffix or largest.name


def likeness_of_files(sizes: Mapping[str, int]) -> str:
    """As `likeness`, of files whose sizes are known, by their names."""
    largest = PurePath(max(sizes, key=sizes.__getitem__))
    return largest.suffix or largest.name


class SizeEstimates:
    """Sizes learned per content, and the growth from disk to memory per framework."""

    def __init__(self) -> None:
        self._learned: dict[str, tuple[int, int]] = {}  # resident and peak bytes
        self._ratios = {_ANY: _FIRST_RATIO}
        self._frameworks: dict[str, str] = {}  # by likeness

    def is_known(self, version: ArtifactVersion) -> bool:
        """Whether this content was loaded before."""
        return version.digest in self._learned

    def estimate(
        self, version: ArtifactVersion, unpacked_bytes: int, limit_bytes: int, like: str = ""
    ) -> int:
        """Bytes to reserve for a load.

        Args:
            version: what is to be loaded.
            unpacked_bytes: its size on disk, which it may well want in any case.
            limit_bytes: a guess and a peak go no higher; what is known to stay does.
            like: see `likeness`.
        """
        if version.digest in self._learned:
            resident_bytes, peak_bytes = self._learned[version.digest]
            peak_bytes = min(int(peak_bytes * _KNOWN_MARGIN), limit_bytes)
            return max(peak_bytes, int(resident_bytes * _KNOWN_MARGIN))
        framework = self._frameworks.get(like, _ANY)
        guess = max(_FLOOR_BYTES, int(unpacked_bytes * self._ratios[framework] * _MARGIN))
        least_bytes = unpacked_bytes if framework == _ANY else 0
        return max(least_bytes, min(guess, limit_bytes))

    def learn(  # noqa: PLR0913 - all that a load told
        self,
        version: ArtifactVersion,
        unpacked_bytes: int,
        resident_bytes: int,
        peak_bytes: int = 0,
        *,
        framework: str = "",
        like: str = "",
    ) -> None:
        """Takes in what a load has taken."""
        peak_bytes = max(peak_bytes, resident_bytes)
        self._learned.pop(version.digest, None)
        self._learned[version.digest] = resident_bytes, peak_bytes
        if len(self._learned) > _LEARNED_LIMIT:
            del self._learned[next(iter(self._learned))]
        if unpacked_bytes < _FLOOR_BYTES:
            return
        ratio = peak_bytes / unpacked_bytes
        for name in {framework, _ANY}:
            before = self._ratios.get(name, 0.0)
            self._ratios[name] = max(ratio, before + _DECAY * (ratio - before))
        if framework and like:
            self._frameworks[like] = framework

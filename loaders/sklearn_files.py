"""One scikit-learn file to an estimator, or a refusal that says why.

Decisions: what another release saved (1.2 for 1.3) is refused, for scikit-learn gives no word that
it predicts the same numbers there, and now and then it does not; within a release it is taken. The
version is read from the bytes, before anything runs. An estimator that tells none was saved before
0.18 and is refused too. What would change our mind: a promise of scikit-learn's.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import sklearn

from loaders.contract import LoadRefused, Trust
from loaders.pickles import RAISED_BY_PICKLES, contents, read_pickle
from loaders.sniff import sniff

_NUMBER = rb"(\d+\.\d+(?:\.\d+)*(?:\.?(?:dev|rc|a|b|post)\d+)?)"
_IN_PICKLES = re.compile(  # the key, its place in the memo, a new frame, the value
    rb"_sklearn_version(?:\x94|q.|r.{4}|\np\d+\n)?(?:\x95.{8})?(?:\x8c.|X.{4}|V)" + _NUMBER,
    re.DOTALL,
)
_IN_SKOPS = re.compile(rb'"_sklearn_version": \{[^}]*"content": "\\"' + _NUMBER)
_OVERLAP_BYTES = 128  # longer than what the patterns match
_SHOWN = 5


def read_estimator(path: Path, trust: Trust) -> Any:  # noqa: ANN401 - any class with `predict`
    """Loads one file.

    Raises:
        LoadRefused: corrupt, of another scikit-learn, a pickle without trust, or no estimator.
    """
    is_skops = sniff(path) == "skops"
    if not is_skops and not trust.code:
        raise LoadRefused(
            f"Unable to load model: {path.name[:80]} is a pickle, which runs code while it is "
            "loaded, and only data is trusted here. Save it with skops.io.dump() as .skops."
        )
    try:
        _check_versions(path, _versions(path, is_skops=is_skops))
        found = _read_skops(path, trust) if is_skops else read_pickle(path)
    except RAISED_BY_PICKLES as exc:
        raise LoadRefused(
            f"Unable to load model: {path.name[:80]}: {first_line(exc)}{_advice(exc)}"
        ) from exc
    if not callable(getattr(found, "predict", None)):
        raise LoadRefused(
            f"Unable to load model: {path.name[:80]} holds a {type(found).__name__}, which does "
            "not predict; it needs a script (code/inference.py)."
        )
    return found


def first_line(exc: Exception) -> str:
    """What went wrong, short enough to be shown."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return (lines or [type(exc).__name__])[0][:200]


def _read_skops(path: Path, trust: Trust) -> Any:  # noqa: ANN401 - any class
    try:
        from skops import io  # noqa: PLC0415 - on demand
    except ImportError as exc:
        raise LoadRefused("skops is not installed: pip install 'mme[sklearn]'.") from exc
    unknown = io.get_untrusted_types(file=path)
    if unknown and not trust.code:
        raise LoadRefused(
            f"Unable to load model: {path.name[:80]} holds types that skops does not know to be "
            f"harmless, and only data is trusted here: {', '.join(unknown[:_SHOWN])[:200]}."
        )
    return io.load(path, trusted=unknown)


def _versions(path: Path, *, is_skops: bool) -> set[str]:
    """The versions of scikit-learn that saved the parts of this file."""
    if is_skops:
        with zipfile.ZipFile(path) as archive:
            found = _IN_SKOPS.findall(archive.read("schema.json"))
        return {version.decode() for version in found}
    versions: set[str] = set()
    tail = b""
    for piece in contents(path):
        window = tail + piece
        versions.update(version.decode() for version in _IN_PICKLES.findall(window))
        tail = window[-_OVERLAP_BYTES:]
    return versions


def _check_versions(path: Path, versions: set[str]) -> None:
    if not versions and sniff(path).startswith("pickle of sklearn.") and _is_whole(path):
        versions = {"0.17 or older"}
    installed = _release(sklearn.__version__)
    others = sorted(version for version in versions if _release(version) != installed)
    if others:
        raise LoadRefused(
            f"Unable to load model: {path.name[:80]} was saved by scikit-learn {others[0]}, "
            f"installed is {sklearn.__version__}, and only the release that saved a model is sure "
            f"to predict its numbers: put scikit-learn=={others[0]} into code/requirements.txt, or "
            "fit and save the model again."
        )


def _is_whole(path: Path) -> bool:
    """Whether a pickle ends as one does: what was cut off may be the version."""
    last = b""
    for piece in contents(path):
        last = piece or last
    return last.endswith(b".")


def _release(version: str) -> list[str]:
    return version.split(".")[:2]


def _advice(exc: Exception) -> str:
    if isinstance(exc, ModuleNotFoundError):
        return "; put what provides it into code/requirements.txt"
    return ""

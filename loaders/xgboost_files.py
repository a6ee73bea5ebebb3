"""One XGBoost model file to what answers for it, or a refusal that says why.

Decisions: the bytes are looked at first. What is plainly JSON or UBJSON is never unpickled, and
what is a pickle is unpickled only where the artifact's code is trusted. Plain trees become a flat
forest and are never given to XGBoost, but for the first ones of each kind in a process: a kind, by
the version that wrote it and the objective, is believed only where both ways answered the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import xgboost

from loaders.contract import LoadRefused, NotCompilable, Trust
from loaders.pickles import RAISED_BY_PICKLES, read_pickle
from loaders.sniff import sniff
from loaders.xgboost_call import direct_call
from loaders.xgboost_comparison import agree, rows_to_compare
from loaders.xgboost_document import Document, read_document, saved_by
from loaders.xgboost_forest import best_round, read_forest
from loaders.xgboost_scorers import BoosterScorer, FlatScorer, Member

_KINDS_KEPT, _FACTS_KEPT = 1_000, 10_000
_DEEPEST = 32  # steps: a walk takes as long as the longest way
_COMPARED_ROWS = 32
_WIDEST_KEPT = 65_536  # features, for which a row is kept ready
_kinds: dict[tuple[str | None, str, int, bool], bool] = {}  # whether flat forests are believed
_facts: dict[bytes, Facts] = {}  # of contents that XGBoost is given: to ask it takes a while
_Read = TypeVar("_Read")
_PLACE_IN_XGBOOST = re.compile(r"^\[[\d:]+\] \S+:\d+: ")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a booster."""

    kind: str  # e.g. gbtree
    objective: str
    classes: int
    targets: int
    width: int  # features
    best: int | None  # the last round that answers, from 0; None: all of them do

    @property
    def outputs(self) -> tuple[int, ...]:
        """The shape of an answer."""
        if self.objective == "multi:softprob":
            return (-1, self.classes)
        return (-1, self.targets) if self.targets > 1 else (-1,)


def read_member(path: Path, trust: Trust) -> Member:
    """Loads one file.

    Raises:
        LoadRefused: corrupt, of a format this XGBoost does not read, or a pickle without trust.
    """
    data = _read(path)
    if not data.startswith(b"{"):
        booster, missing = _translated(path, data, lambda: _other(path, trust))
        return booster_member(booster, missing)
    return _translated(path, data, lambda: _member(data))


def read_booster(path: Path, trust: Trust) -> xgboost.Booster:
    """Loads one file for XGBoost itself. Raises as `read_member`."""
    data = _read(path)
    if not data.startswith(b"{"):
        return _translated(path, data, lambda: _other(path, trust))[0]
    return _translated(path, data, lambda: _checked_booster(data, read_document(data)))


def booster_member(
    booster: xgboost.Booster, missing: float = np.nan, facts: Facts | None = None
) -> Member:
    """A booster, to be asked as it is.

    Args:
        booster: as it was loaded.
        missing: the value that stands for a missing one.
        facts: what is known of it.
    """
    booster.set_param({"nthread": 1, "device": "cpu"})
    known = facts or _ask(booster)
    in_place, rounds = known.kind == "gbtree", (0, 0)
    if known.best is not None and known.kind != "gblinear":
        rounds = 0, min(known.best + 1, booster.num_boosted_rounds())
    is_fast = in_place and known.width <= _WIDEST_KEPT
    direct = direct_call(booster, rounds, missing, len(known.outputs)) if is_fast else None
    return Member(
        width=known.width,
        objective=known.objective,
        classes=known.classes,
        outputs=known.outputs,
        scorer=BoosterScorer(
            booster=booster, in_place=in_place, rounds=rounds, missing=missing, direct=direct
        ),
    )


def _member(data: bytes) -> Member:
    content = hashlib.sha256(data).digest() if _facts else b""
    facts = _facts.get(content)
    if facts is not None:  # it was looked through, and is for XGBoost
        return booster_member(_booster(data), facts=facts)
    document = read_document(data)
    facts = _facts_of(document)
    try:
        forest, transform = read_forest(document)
    except NotCompilable:
        return _remembered(data, document, facts)
    flat = FlatScorer(forest, transform)
    kind = saved_by(data), facts.objective, len(forest.base), any(forest.base)
    if kind not in _kinds and len(_kinds) < _KINDS_KEPT:
        known = booster_member(_booster(data), facts=facts).scorer
        asked = np.zeros((0, forest.width), np.float32)
        rows = rows_to_compare(forest, asked, _COMPARED_ROWS)
        try:
            _kinds[kind] = agree(known, flat, rows, facts.objective)
        except (ValueError, TypeError):  # XGBoostError, too; it says so when it is asked
            _kinds[kind] = False
    if forest.depth > _DEEPEST or not _kinds.get(kind, False):
        return _remembered(data, document, facts)
    return Member(
        width=facts.width,
        objective=facts.objective,
        classes=facts.classes,
        outputs=facts.outputs,
        scorer=flat,
    )


def _remembered(data: bytes, document: Document, facts: Facts) -> Member:
    """For XGBoost, and without another look at it the next time."""
    member = booster_member(_checked_booster(data, document), facts=facts)
    _facts[hashlib.sha256(data).digest()] = facts
    if len(_facts) > _FACTS_KEPT:
        del _facts[next(iter(_facts))]
    return member


def _checked_booster(data: bytes, document: Document) -> xgboost.Booster:
    """XGBoost's own. Raises ValueError where it passes over what answers depend on.

    It has kept the weights of trees in three places so far, and looks in none that came later.
    """
    booster = _booster(data)
    if document.is_weighted and not read_document(bytes(booster.save_raw("ubj"))).is_weighted:
        raise ValueError("it was trained with dropout (dart), which this XGBoost would pass over")
    return booster


def _booster(data: bytes) -> xgboost.Booster:
    booster = xgboost.Booster()
    booster.load_model(bytearray(data))
    return booster


def _facts_of(document: Document) -> Facts:
    learner = document.learner
    parameters = learner["learner_model_param"]
    return Facts(
        document.kind,
        learner["objective"]["name"],
        int(parameters.get("num_class", 0)),
        int(parameters.get("num_target", 1)),
        int(parameters["num_feature"]),
        best_round(learner),
    )


def _ask(booster: xgboost.Booster) -> Facts:
    learner = msgspec.json.decode(booster.save_config())["learner"]
    learner["attributes"] = booster.attributes()
    document = Document(learner=learner, kind=learner["gradient_booster"]["name"], trees=None)
    return replace(_facts_of(document), width=booster.num_features())


def first_line(exc: Exception) -> str:
    """XGBoost's own words, without its source files and its C++ stack."""
    line = (str(exc).splitlines() or [""])[0]
    return _PLACE_IN_XGBOOST.sub("", line)[:200] or type(exc).__name__


def _read(path: Path) -> bytes:
    with path.open("rb", buffering=0) as file:
        data = file.readall()
    if not data:
        raise LoadRefused(f"Unable to load model: {path.name[:80]} is empty.")
    return data


def _translated(path: Path, data: bytes, read: Callable[[], _Read]) -> _Read:
    """What `read` gives, or a refusal in words."""
    try:
        return read()
    except RAISED_BY_PICKLES as exc:
        raise LoadRefused(
            f"Unable to load model: {path.name[:80]}: {first_line(exc)}{_versions(data)}"
        ) from exc


def _other(path: Path, trust: Trust) -> tuple[xgboost.Booster, float]:
    """A booster that was pickled, and what stands for a missing value.

    XGBoost reads nothing else from us: of no bytes, its reader ends the process.
    """
    if not sniff(path).startswith("pickle"):
        raise ValueError("no model that XGBoost reads")
    if not trust.code:
        raise LoadRefused(
            "Unable to load model: it is a pickle, which runs code while it is loaded, and only "
            "data is trusted here. Save it with save_model() as .ubj or .json."
        )
    found: Any = read_pickle(path)
    missing = getattr(found, "missing", np.nan)
    if hasattr(found, "get_booster"):  # XGBClassifier and its sisters
        found = found.get_booster()
    if not isinstance(found, xgboost.Booster):
        raise TypeError(f"the pickle holds a {type(found).__name__}, not a Booster")
    return found, missing


def _versions(data: bytes) -> str:
    """What a version may have to do with it: ours is told only beside another of the model's."""
    if data.startswith(b"{"):
        version = saved_by(data)
        told = f"saved by xgboost {version}, installed is xgboost {xgboost.__version__}"
        return f" ({told})" if version not in {None, "", xgboost.__version__} else ""
    if data.startswith(b"\x80"):
        return ""
    return " (neither JSON nor UBJSON nor a pickle: save it again as .ubj)"

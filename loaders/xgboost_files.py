"""One XGBoost model file to a booster, or a refusal that says why.

Decision: the bytes are looked at first. What is plainly JSON or UBJSON is never unpickled, and what
is a pickle is unpickled only where the artifact's code is trusted.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import xgboost

from loaders.checked import Checked
from loaders.contract import LoadRefused, Trust
from loaders.pickles import RAISED_BY_PICKLES, read_pickle
from loaders.sniff import sniff
from loaders.xgboost_document import check_document, saved_by

_checked = Checked(check_document)
_FACTS_KEPT = 10_000
_facts: dict[bytes, Facts] = {}  # by content: to ask XGBoost takes a quarter of a load
_PLACE_IN_XGBOOST = re.compile(r"^\[[\d:]+\] \S+:\d+: ")


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """What a file held."""

    booster: xgboost.Booster
    missing: float = np.nan  # the value that stands for a missing one
    content: bytes | None = None  # the digest of what was looked through


@dataclass(frozen=True, slots=True)
class Facts:
    """What XGBoost knows of a booster that it has loaded."""

    kind: str  # of booster, e.g. gbtree
    objective: str
    classes: int
    targets: int


def read_booster(path: Path, trust: Trust) -> Saved:
    """Loads one file.

    Raises:
        LoadRefused: corrupt, of a format this XGBoost does not read, or a pickle without trust.
    """
    with path.open("rb") as file:
        buffer = bytearray(os.fstat(file.fileno()).st_size)  # which XGBoost takes as it is
        del buffer[file.readinto(buffer) or 0 :]
        data = cast("bytes", buffer)  # all others only look at it
    try:
        document = data.startswith(b"{")
        if not document and sniff(path).startswith("pickle"):
            return _unpickle(path, trust)
        content = _checked(data) if document else None
        booster = xgboost.Booster()
        booster.load_model(buffer)
        return Saved(booster=booster, content=content)
    except RAISED_BY_PICKLES as exc:
        raise LoadRefused(
            f"Unable to load model: {path.name[:80]}: {first_line(exc)}{_versions(data)}"
        ) from exc


def facts(saved: Saved) -> Facts:
    """What XGBoost knows of `saved`, asked once a content."""
    found = _facts.get(saved.content) if saved.content else None
    if found is None:
        learner = msgspec.json.decode(saved.booster.save_config())["learner"]
        parameters = learner["learner_model_param"]
        found = Facts(
            learner["gradient_booster"]["name"],
            learner["objective"]["name"],
            int(parameters["num_class"]),
            int(parameters.get("num_target", 1)),
        )
        if saved.content:
            _facts[saved.content] = found
            if len(_facts) > _FACTS_KEPT:
                del _facts[next(iter(_facts))]
    return found


def first_line(exc: Exception) -> str:
    """XGBoost's own words, without its source files and its C++ stack."""
    line = (str(exc).splitlines() or [""])[0]
    return _PLACE_IN_XGBOOST.sub("", line)[:200] or type(exc).__name__


def _unpickle(path: Path, trust: Trust) -> Saved:
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
    return Saved(booster=found, missing=missing)


def _versions(data: bytes) -> str:
    """What a version may have to do with it: ours is told only beside the model's own."""
    if data.startswith(b"{"):
        version = saved_by(data)
        told = f"saved by xgboost {version}, installed is xgboost {xgboost.__version__}"
        return f" ({told})" if version else ""
    if data.startswith(b"\x80"):
        return ""
    return " (neither JSON nor UBJSON nor a pickle: save it again as .ubj)"

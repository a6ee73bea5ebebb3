"""Many keys over few boosters: each an object of its own, for training thousands tells no more.

Decision: where first loads are measured, each has content of its own, too, by an attribute that
says which it is: a server may know what it has looked through before.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

from load_tests.plan import Question
from load_tests.tenants import TrainingFailed, pack, train

_NO_ATTRIBUTES = b"attributes{}"  # in UBJSON, as XGBoost writes it
_COMPRESSION = 6


def make_replicas(
    scratch: Path, count: int, boosters: int, *, distinct: bool = False
) -> list[Question]:
    """Trains `boosters` xgboost models and packs `count` keys of them into `scratch/models`.

    Args:
        scratch: a directory.
        count: how many keys.
        boosters: how many different answers.
        distinct: whether no two models hold the same bytes.

    Raises:
        TrainingFailed: the boosters could not be made.
    """
    trained, packed, models = (scratch / name for name in ("trained", "packed", "models"))
    for directory in (trained, packed, models):
        directory.mkdir()
    train(trained, boosters, "xgboost")
    tenants = pack(trained, packed)
    questions = []
    for number in range(count):
        question = tenants[number % len(tenants)].question
        target = f"model-{number:06}.tar.gz"
        if distinct:
            [file] = (trained / question.target.removesuffix(".tar.gz")).iterdir()
            _pack_copy(file, models / target, str(number).encode())
        else:
            (models / target).hardlink_to(packed / question.target)
        questions.append(replace(question, target=target))
    return questions


def _pack_copy(file: Path, tarball: Path, number: bytes) -> None:
    """Packs a saved booster with an attribute that tells it from all others."""
    attribute = b"attributes{" + _ubjson(b"copy") + b"S" + _ubjson(number) + b"}"
    content = file.read_bytes()
    if _NO_ATTRIBUTES not in content:
        raise TrainingFailed(f"{file.name} is not as XGBoost writes it")
    content = content.replace(_NO_ATTRIBUTES, attribute, 1)
    member = tarfile.TarInfo(file.name)
    member.size = len(content)
    with tarfile.open(tarball, "w:gz", compresslevel=_COMPRESSION) as archive:
        archive.addfile(member, io.BytesIO(content))


def _ubjson(text: bytes) -> bytes:
    return b"L" + len(text).to_bytes(8, "big") + text

"""Many keys over few boosters: each an object of its own, for training thousands tells no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from load_tests.plan import Question
from load_tests.tenants import pack, train


def make_replicas(scratch: Path, count: int, boosters: int) -> list[Question]:
    """Trains `boosters` xgboost models and packs `count` keys of them into `scratch/models`.

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
        (models / target).hardlink_to(packed / question.target)
        questions.append(replace(question, target=target))
    return questions

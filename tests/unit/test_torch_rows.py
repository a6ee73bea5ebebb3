"""Which torch programs have their payloads run together, and that their answers stay the same."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from loaders.contract import Answer, Model, Payload, Trust
from loaders.torch_loader import LOADER
from loaders.torch_rows import script_keeps_rows_apart

WIDTH = 6


class Step(torch.nn.Module):
    """One layer, then what the test is about."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(WIDTH, 4)
        self.count = 0


class Mean(Step):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(x)
        return x - x.mean(dim=0)


class Softmax0(Step):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.softmax(self.layer(x), dim=0)


class SoftmaxBack(Step):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.softmax(self.layer(x), dim=-2)


class Flattened(Step):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).flatten()


class Gram(Step):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(x)
        return x @ x.t()


class Branching(Step):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(x)
        if bool(x.max() > 0):
            x = x + 1
        return x


class Counting(Step):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return self.layer(x) + self.count


class Sized(Step):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) * x.size(0)


class Noisy(Step):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(self.layer(x), 0.5, True)


class Added(Step):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(x)
        return x + x.relu()  # rows on both sides may be lined up with anything


class Ending(Step):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.layer(x)
        return functional.softmax(x, dim=1), x * 2 + 1


class Constant(Step):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(3, 1)


def deep() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(WIDTH, 32),
        torch.nn.BatchNorm1d(32),
        torch.nn.LeakyReLU(),
        torch.nn.Dropout(0.5),
        torch.nn.LayerNorm(32),
        torch.nn.Linear(32, 32),
        torch.nn.GELU(),
        torch.nn.Linear(32, 3),
        torch.nn.LogSoftmax(dim=1),
    )


def scripted(module: torch.nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings(action="ignore"):
        return torch.jit.script(module.eval())


def load(module: torch.nn.Module, folder: Path) -> Model:
    with warnings.catch_warnings(action="ignore"):
        scripted(module).save(str(folder / "model.pt"))
    return LOADER.load(folder, Trust())


def payloads(count: int, rows: int = 1, width: int = WIDTH) -> list[Payload]:
    random = np.random.default_rng(count)
    tables = random.normal(size=(count, rows, width)).round(4).tolist()
    return [Payload(json.dumps(table).encode(), "application/json") for table in tables]


def runs_of(model: Model) -> list[int]:
    """The rows of each run from now on."""
    seen: list[int] = []
    call = model._program.call

    def counted(feed):
        seen.append(len(next(iter(feed.values()))))
        return call(feed)

    object.__setattr__(model._program, "call", counted)
    return seen


@pytest.mark.parametrize("module", [deep(), Ending(), torch.nn.Linear(WIDTH, 2)])
def test_programs_of_steps_within_rows_keep_them_apart(module):
    assert script_keeps_rows_apart(scripted(module))


@pytest.mark.parametrize(
    "module",
    [Mean(), Softmax0(), SoftmaxBack(), Flattened(), Gram(), Branching(), Counting(), Sized(),
     Noisy(), Added(), Constant()],
    ids=lambda module: type(module).__name__,
)  # fmt: skip
def test_programs_that_mix_rows_or_may_are_told_from_them(module):
    assert not script_keeps_rows_apart(scripted(module))


@pytest.mark.parametrize("module", [deep(), Ending()])
@pytest.mark.parametrize("count", [2, 16, 64])
def test_rows_that_are_apart_run_together_and_answer_as_alone(tmp_path, module, count):
    model = load(module, tmp_path)
    asked = payloads(count)
    alone = [json.loads(model.predict([one])[0].body) for one in asked]
    model.predict(asked)  # tries
    runs = runs_of(model)
    together = [json.loads(answer.body) for answer in model.predict(asked)]
    assert runs == [count]
    for found, wanted in zip(together, alone, strict=True):
        for name in wanted if isinstance(wanted, dict) else [slice(None)]:
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-6)


def test_a_program_that_mixes_rows_answers_each_payload_as_if_alone(tmp_path):
    model = load(Mean(), tmp_path)
    asked = payloads(3, rows=2)
    alone = [model.predict([one])[0].body for one in asked]
    for _ in range(2):
        assert [answer.body for answer in model.predict(asked)] == alone


def test_where_the_first_answers_differ_alone_payloads_stay_alone(tmp_path):
    model = load(deep(), tmp_path)
    call = model._program.call
    object.__setattr__(
        model._program, "call", lambda feed: call(feed) + (len(next(iter(feed.values()))) > 1)
    )
    asked = payloads(3)
    runs = runs_of(model)
    answers = [answer.body for answer in model.predict(asked)]
    assert runs[-3:] == [1, 1, 1]
    assert answers == [model.predict([one])[0].body for one in asked]


def test_one_bad_row_fails_alone(tmp_path):
    model = load(deep(), tmp_path)
    good = payloads(2)
    answers = model.predict([good[0], *payloads(1, width=WIDTH + 1), good[1]])
    assert [isinstance(answer, Answer) for answer in answers] == [True, False, True]
    assert answers[1].status == 400


def test_a_list_that_may_be_one_row_is_not_joined_with_another(tmp_path):
    model = load(torch.nn.Softmax(dim=-1), tmp_path)
    one, two = model.predict([Payload(b"[1,2]"), Payload(b"[1,2]")])
    assert one == two
    assert sum(json.loads(one.body)) == pytest.approx(1)


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> Path:
    """Made here once, as the first export leaves a temporary folder."""
    folder = tmp_path_factory.mktemp("exports")
    for name, shapes in (("free", {"input": {0: torch.export.Dim("rows")}}), ("fixed", None)):
        (folder / name).mkdir()
        with warnings.catch_warnings(action="ignore"):
            example = (torch.ones(2 if shapes else 1, WIDTH),)
            program = torch.export.export(deep().eval(), example, dynamic_shapes=shapes)
            torch.export.save(program, folder / name / "model.pt2")
    return folder


@pytest.mark.parametrize(("name", "expected"), [("free", [4]), ("fixed", [1, 1, 1, 1])])
def test_an_exported_program_runs_rows_together_where_their_number_is_free(exports, name, expected):
    model = LOADER.load(exports / name, Trust())
    asked = payloads(4)
    alone = [json.loads(model.predict([one])[0].body) for one in asked]
    model.predict(asked)  # tries
    runs = runs_of(model)
    together = [json.loads(answer.body) for answer in model.predict(asked)]
    assert runs == expected
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("module", "threads"),
    [
        (torch.nn.Linear(WIDTH, 4), 1),
        (torch.nn.Linear(WIDTH, 200_000), 3),
        (torch.nn.Conv1d(1, 2, 3), 3),
    ],
)
def test_small_matrices_run_on_one_thread_and_others_on_the_workers(tmp_path, module, threads):
    model = load(module, tmp_path)
    seen, call, before = [], model._program.call, torch.get_num_threads()
    object.__setattr__(
        model._program, "call", lambda feed: seen.append(torch.get_num_threads()) or call(feed)
    )
    torch.set_num_threads(3)
    try:
        [answer] = model.predict(payloads(1))
        assert isinstance(answer, Answer)
        assert seen == [threads]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)

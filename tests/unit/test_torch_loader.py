"""The torch loader: which file it takes, what it refuses, and errors short enough to be shown."""

from __future__ import annotations

import json
import warnings
import weakref
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

from loaders.contract import LoadRefused, Model, Payload, Trust
from loaders.samples import train_torch
from loaders.torch_loader import LOADER


class Mixed(torch.nn.Module):
    """Answers by the type of its input, so that the type can be seen from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if values.is_floating_point():
            return values * self.weight
        return values * 0 - 7


class Pair(torch.nn.Module):
    def forward(
        self, a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if scale is not None:
            a = a * scale
        return a + b, a - b


class Named(torch.nn.Module):
    def forward(self, a: torch.Tensor, *, b: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": a + b, "half": (a + b).to(torch.float16)}


class Flagged(torch.nn.Module):
    def forward(
        self, a: torch.Tensor, twice: bool = False, b: torch.Tensor | None = None
    ) -> torch.Tensor:
        if twice:
            a = a * 2
        return a if b is None else a - b


class Nested(torch.nn.Module):
    def forward(self, batch: dict[str, torch.Tensor], factor: int) -> torch.Tensor:
        return (batch["x"] + batch["y"]) * factor


class Tokens(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(10, 2)

    def forward(self, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return self.table(ids) * 0 + weights


class Empty(torch.nn.Module):
    def forward(self, values: torch.Tensor) -> list[str]:
        return ["no tensor"]


class Listed(torch.nn.Module):
    def forward(self, values: list[torch.Tensor]) -> torch.Tensor:
        return values[0]


class Broken(torch.nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of luck")


def save(module: torch.nn.Module, path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(module).save(str(path))


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> Path:
    """Made here once, as the first export leaves a temporary folder."""
    folder = tmp_path_factory.mktemp("exports")
    one, two = torch.ones(1, 2), torch.ones(1, 2)
    ids = torch.zeros(2, dtype=torch.int64)
    for name, module, values, named in (
        ("named", Named(), (one,), {"b": two}),
        ("nested", Nested(), ({"x": one, "y": two}, 3), {}),
        ("tokens", Tokens(), (ids, torch.ones(2, 2)), {}),
    ):
        (folder / name).mkdir()
        with warnings.catch_warnings(action="ignore"):
            program = torch.export.export(module, values, named)
            torch.export.save(program, folder / name / "model.pt2")
    return folder


def load(directory: Path) -> Model:
    return LOADER.load(directory, Trust())


def ask(model: Model, body: bytes, content_type: str | None = None, accept: str | None = None):
    [answer] = model.predict([Payload(body, content_type, accept)])
    return answer


def npy(array: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_model_pt_is_preferred_and_else_there_must_be_one(tmp_path):
    save(torch.nn.Identity(), tmp_path / "a.pt")
    save(torch.nn.Identity(), tmp_path / "b.pth")
    with pytest.raises(LoadRefused, match=r"found a\.pt, b\.pth"):
        load(tmp_path)
    save(torch.nn.Identity(), tmp_path / "model.pt")
    assert ask(load(tmp_path), b"[1]").body == b"[1.0]"


def test_a_body_without_a_type_is_json(tmp_path):
    save(torch.nn.Identity(), tmp_path / "model.pt")
    model = load(tmp_path)
    assert ask(model, b"[[[1,2]],[[3,4]]]").body == b"[[[1.0,2.0]],[[3.0,4.0]]]"
    assert ask(model, b"1,2\n3,4", "text/csv", "text/csv").body == b"1.0,2.0\n3.0,4.0\n"


def test_floats_take_the_type_of_the_weights_and_npy_integers_stay(tmp_path):
    save(Mixed(), tmp_path / "model.pt")
    model = load(tmp_path)
    answer = ask(model, b"[1]", "application/json", "application/x-npy")
    assert np.load(BytesIO(answer.body)).dtype == np.float64
    assert json.loads(ask(model, npy(np.array([1, 2])), "application/x-npy").body) == [-7, -7]


def test_half_precision_answers_can_be_written(tmp_path):
    save(torch.nn.Linear(2, 1).to(torch.bfloat16), tmp_path / "model.pt")
    answer = ask(load(tmp_path), b"[1,2]", None, "application/x-npy")
    assert np.load(BytesIO(answer.body)).dtype == np.float32


@pytest.mark.parametrize("body", [b"[[1,2,3]]", b"[[[1]]]", b"1"])
def test_a_wrong_shape_is_a_bad_payload_in_one_line(tmp_path, body):
    train_torch(tmp_path / "model.pt", 1)
    fault = ask(load(tmp_path), body)
    assert fault.status == 400
    assert "\n" not in str(fault)
    assert len(str(fault)) < 260


def test_several_inputs_come_by_name_and_several_outputs_go_by_number(tmp_path):
    save(Pair(), tmp_path / "model.pt")
    model = load(tmp_path)
    expected = {"output_0": [[4, 6]], "output_1": [[-2, -2]]}
    for body in (
        b'{"inputs": {"a": [[1, 2]], "b": [[3, 4]]}}',
        b'{"instances": [{"b": [3, 4], "a": [1, 2]}]}',
    ):
        assert json.loads(ask(model, body).body) == expected
    scaled = b'{"inputs": {"a": [[1, 2]], "b": [[3, 4]], "scale": [2]}}'
    assert json.loads(ask(model, scaled).body)["output_0"] == [[5, 8]]


def test_what_several_inputs_and_outputs_cannot_be_is_told(tmp_path):
    save(Pair(), tmp_path / "model.pt")
    model = load(tmp_path)
    assert "by name as JSON" in str(ask(model, b"1,2", "text/csv"))
    assert "given: a." in str(ask(model, b'{"inputs": {"a": [1]}}'))
    fault = ask(model, b'{"inputs": {"a": [1], "b": [2]}}', None, "text/csv")
    assert (fault.status, "output_0, output_1" in str(fault)) == (406, True)


def test_an_exported_program_is_asked_by_name_whatever_its_arguments_are(exports):
    answer = ask(load(exports / "named"), b'{"instances": [{"a": [1, 2], "b": [3, 4]}]}')
    assert json.loads(answer.body) == {"sum": [[4, 6]], "half": [[4, 6]]}
    model = load(exports / "nested")
    answer = ask(model, b'{"inputs": {"batch_x": [[1, 2]], "batch_y": [[3, 4]]}}')
    assert json.loads(answer.body) == [[12, 18]]
    assert "shape [1, 2]" in str(ask(model, b'{"inputs": {"batch_x": [1], "batch_y": [[3, 4]]}}'))


def test_an_exported_program_gets_the_types_that_it_declares(exports):
    model = load(exports / "tokens")
    answer = ask(model, b'{"inputs": {"ids": [1, 9], "weights": [[1, 2], [3, 4]]}}')
    assert json.loads(answer.body) == [[1, 2], [3, 4]]
    fault = ask(model, b'{"inputs": {"ids": [0.5, 1], "weights": [[1, 2], [3, 4]]}}')
    assert "ids is no int64" in str(fault)


def test_where_a_script_takes_no_floats_whole_numbers_are_integers(tmp_path):
    save(torch.nn.Sequential(torch.nn.Embedding(10, 2), torch.nn.Flatten()), tmp_path / "model.pt")
    model = load(tmp_path)
    assert np.shape(json.loads(ask(model, b"[[1, 9]]").body)) == (1, 4)
    assert np.shape(json.loads(ask(model, b"1,9", "text/csv").body)) == (1, 4)
    assert ask(model, b"[[1.5, 9]]").status == 400
    assert ask(model, b"[[1, 99]]").status == 400


def test_what_has_a_default_between_two_tensors_keeps_it(tmp_path):
    save(Flagged(), tmp_path / "model.pt")
    model = load(tmp_path)
    assert ask(model, b"[[3, 4]]").body == b"[[3.0,4.0]]"
    assert ask(model, b'{"inputs": {"a": [[3, 4]], "b": [[1, 1]]}}').body == b"[[2.0,3.0]]"


def test_tensors_taken_by_name_only_are_given_by_name(tmp_path):
    save(Named(), tmp_path / "model.pt")
    answer = ask(load(tmp_path), b'{"inputs": {"b": [[1]], "a": [[3]]}}')
    assert json.loads(answer.body) == {"sum": [[4.0]], "half": [[4.0]]}


def test_what_is_no_tensor_is_refused_unless_it_has_a_default(tmp_path):
    save(Listed(), tmp_path / "model.pt")
    with pytest.raises(LoadRefused, match=r"takes values, which is a List\[Tensor\]"):
        load(tmp_path)


@pytest.mark.parametrize("module", [Empty(), Broken()])
def test_a_model_that_gives_no_tensor_is_at_fault_itself(tmp_path, module):
    save(module, tmp_path / "model.pt")
    assert ask(load(tmp_path), b"[1]").status == 500


def test_the_model_is_in_evaluation_mode_and_tracks_no_gradient(tmp_path):
    save(torch.nn.Dropout(0.5).train(), tmp_path / "model.pt")
    assert ask(load(tmp_path), b"[1,1,1,1,1,1,1,1]").body == b"[1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0]"


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["model.pt", "weights.pth"])
def test_bare_weights_are_refused_saying_what_they_need(tmp_path, name, legacy):
    weights = torch.nn.Linear(2, 1).state_dict()
    torch.save(weights, tmp_path / name, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(LoadRefused, match=r"code/inference\.py"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["model.pt", "model.pt2"])
def test_a_file_of_garbage_is_refused_in_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04" + bytes(500))
    with pytest.raises(LoadRefused, match=r"^Unable to load model: ") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_bytes_of_its_parameters_are_counted(tmp_path):
    save(torch.nn.Linear(100, 10), tmp_path / "model.pt")
    assert load(tmp_path).nbytes() == 4 * (100 * 10 + 10)


def test_a_closed_model_lets_go_of_its_module(tmp_path):
    save(torch.nn.Linear(2, 1), tmp_path / "model.pt")
    model = load(tmp_path)
    module = weakref.ref(model._program.module)
    model.close()
    assert module() is None

"""The ONNX loader: every type in, several outputs, what it refuses, and nothing that ends it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from loaders.contract import Answer, LoadRefused, Model, Payload, Trust
from loaders.onnx_loader import LOADER
from tests.contract.tensor_cases import FEATURES, network, stamped

FLOAT, INT, TEXT = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


def graph(nodes, inputs, outputs, weights=()):
    made = [
        [helper.make_tensor_value_info(*value) for value in values] for values in (inputs, outputs)
    ]
    return helper.make_graph([helper.make_node(*node) for node in nodes], "g", *made, weights)


def save(directory: Path, *parts, **more) -> Path:
    onnx.save_model(stamped(graph(*parts), **more), directory / "model.onnx")
    return directory


def load(directory: Path) -> Model:
    return LOADER.load(directory, Trust(code=False))


def ask(model: Model, document, content_type: str | None = None, accept: str | None = None):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    [answer] = model.predict([Payload(body, content_type, accept)])
    return json.loads(answer.body) if isinstance(answer, Answer) else answer


@pytest.fixture
def pair(tmp_path) -> Model:
    nodes = [("Add", ["x", "y"], ["sum"]), ("Sub", ["x", "y"], ["difference"])]
    inputs = [("x", FLOAT, ["n", 2]), ("y", FLOAT, ["n", "m"])]
    outputs = [("sum", FLOAT, ["n", 2]), ("difference", FLOAT, ["n", 2])]
    return load(save(tmp_path, nodes, inputs, outputs))


def test_several_inputs_come_by_name_and_several_outputs_go_by_name(pair):
    expected = {"sum": [[4, 6]], "difference": [[-2, -2]]}
    assert ask(pair, {"inputs": {"x": [[1, 2]], "y": [[3, 4]]}}) == expected
    assert ask(pair, {"instances": [{"x": [1, 2], "y": [3, 4]}]}) == expected
    assert ask(pair, {"inputs": {"x": [[1, 2]], "y": [[3, 4]]}}, None, "text/csv").status == 406


def test_rows_of_several_inputs_run_together_and_are_split_again(pair):
    payloads = [
        Payload(json.dumps({"inputs": {"x": [[n, n]], "y": [[1, 1]]}}).encode()) for n in range(3)
    ]
    found = [json.loads(answer.body)["sum"] for answer in pair.predict(payloads)]
    assert found == [[[1, 1]], [[2, 2]], [[3, 3]]]


def test_shapes_that_only_the_model_finds_wrong_are_a_bad_payload_without_internals(pair):
    fault = ask(pair, {"inputs": {"x": [[1, 2]], "y": [[1, 2, 3]]}})
    assert fault.status == 400
    assert "x [1, 2], y [1, 3]" in str(fault)
    assert "onnx" not in str(fault).lower()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (TensorProto.DOUBLE, 0.1),
        (TensorProto.FLOAT16, 0.5),
        (INT, 2**60 + 1),
        (TensorProto.INT32, -7),
        (TensorProto.UINT8, 255),
        (TensorProto.BOOL, True),
        (TEXT, "größe, 日本"),
    ],
)
def test_values_become_the_declared_type_and_come_back_as_they_were(tmp_path, kind, value):
    nodes = [("Identity", ["x"], ["y"])]
    model = load(save(tmp_path, nodes, [("x", kind, ["n", 1])], [("y", kind, ["n", 1])]))
    assert ask(model, {"instances": [[value], [value]]}) == [[value], [value]]
    cell = json.dumps(int(value) if isinstance(value, bool) else value, ensure_ascii=False)
    assert ask(model, cell.encode(), "text/csv") == [[value]]


def test_a_value_of_another_type_is_refused(tmp_path):
    nodes = [("Identity", ["x"], ["y"])]
    model = load(save(tmp_path, nodes, [("x", INT, ["n"])], [("y", INT, ["n"])]))
    for value in (1.5, "a", None):
        assert ask(model, [value]).status in {400, 415}


def test_an_index_out_of_bounds_is_a_bad_payload(tmp_path):
    nodes = [("Gather", ["table", "x"], ["y"])]
    table = numpy_helper.from_array(np.arange(3, dtype=np.float32), "table")
    model = load(save(tmp_path, nodes, [("x", INT, ["n"])], [("y", FLOAT, ["n"])], [table]))
    assert ask(model, [2]) == [2]
    assert ask(model, [7]).status == 400


def test_rows_are_joined_only_where_the_first_dimension_is_free_and_the_same(tmp_path):
    nodes = [("Identity", ["x"], ["y"])]
    for first, second, joined in (
        ("n", "n", True),
        (None, "n", True),
        (None, None, True),
        ("n", "m", False),
        (1, 1, False),
        (1, "n", False),
    ):
        path = save(tmp_path, nodes, [("x", FLOAT, [first, 2])], [("y", FLOAT, [second, 2])])
        assert load(path)._predictor.independent is joined, (first, second)


def test_a_fixed_batch_takes_just_that(tmp_path):
    nodes = [("Identity", ["x"], ["y"])]
    model = load(save(tmp_path, nodes, [("x", FLOAT, [1, 2])], [("y", FLOAT, [1, 2])]))
    assert ask(model, b"1:5", "text/libsvm") == [[5, 0]]
    assert ask(model, [1, 2]) == [[1, 2]]
    assert ask(model, [[1, 2], [3, 4]]).status == 400


@pytest.mark.parametrize(("labels", "kinds"), [([0, 1], "int"), (["no", "yes"], "str")])
def test_a_scikit_learn_classifier_answers_labels_and_probabilities(tmp_path, labels, kinds):
    from skl2onnx import to_onnx  # noqa: PLC0415 - seconds that most tests need not spend
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    rows = np.random.default_rng(1).normal(size=(40, FEATURES)).astype(np.float32)
    classes = np.array(labels)[(rows.sum(axis=1) > 0).astype(int)]
    made = to_onnx(LogisticRegression().fit(rows, classes), rows[:1])
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
    model = load(tmp_path)
    answers = model.predict(
        [Payload(json.dumps(part.tolist()).encode()) for part in np.split(rows[:6], 3)]
    )
    found = [json.loads(answer.body) for answer in answers]
    assert set(found[0]) == {"output_label", "output_probability"}
    wanted, chances = model._session.run(None, {"X": rows[:6]})
    assert [label for part in found for label in part["output_label"]] == wanted.tolist()
    for said, chance in zip(
        [one for part in found for one in part["output_probability"]], chances, strict=True
    ):
        assert said == pytest.approx({str(name): value for name, value in chance.items()})


def test_a_newer_opset_or_format_is_refused_with_both_versions(tmp_path):
    nodes = [("Identity", ["x"], ["y"])]
    ends = [("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])]
    with pytest.raises(LoadRefused, match=r"opset 99 of ai\.onnx.* knows those up to \d+\.$"):
        load(save(tmp_path, nodes, *ends, opset=99))
    model = stamped(graph(nodes, *ends))
    model.ir_version = 99
    onnx.save_model(model, tmp_path / "model.onnx")
    with pytest.raises(LoadRefused, match=r"IR version 99, .* knows those up to \d+\.$"):
        load(tmp_path)


@pytest.mark.parametrize("domain", ["ai.acme", ""])
def test_a_custom_operator_is_refused_by_name(tmp_path, domain):
    made = stamped(graph([], [("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])]))
    made.graph.node.append(helper.make_node("Magic", ["x"], ["y"], domain=domain))
    if domain:
        made.opset_import.append(helper.make_opsetid(domain, 1))
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(LoadRefused, match=r"operator .*Magic is a custom one"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("../secret", "lie outside the archive"),
        ("sub/../../secret", "lie outside the archive"),
        ("{absolute}", "lie outside the archive"),
        ("*/_ORT_MEM_ADDR_/*", "lie outside the archive"),
        ("nothing", "missing or cut short"),
        ("short", "missing or cut short"),
    ],
)
def test_weights_from_outside_the_archive_are_refused(tmp_path, location, told):
    inside = tmp_path / "model"
    (inside / "sub").mkdir(parents=True)
    made = network(1)
    (tmp_path / "secret").write_bytes(made.graph.initializer[0].raw_data)
    (inside / "short").write_bytes(b"1234")
    size_bytes = len(made.graph.initializer[0].raw_data)
    made.graph.initializer[0].ClearField("raw_data")
    made.graph.initializer[0].data_location = TensorProto.EXTERNAL
    facts = {"location": location.format(absolute=tmp_path / "secret"), "length": size_bytes}
    for key, value in facts.items():
        made.graph.initializer[0].external_data.add(key=key, value=str(value))
    (inside / "model.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(LoadRefused, match=told) as caught:
        load(inside)
    assert str(tmp_path) not in str(caught.value)


def test_inputs_that_no_payload_holds_are_refused(tmp_path):
    sequence = helper.make_tensor_sequence_value_info("x", FLOAT, None)
    at = numpy_helper.from_array(np.array(0), "at")
    made = graph([("SequenceAt", ["x", "at"], ["y"])], [], [("y", FLOAT, None)], [at])
    made.input.append(sequence)
    (tmp_path / "model.onnx").write_bytes(stamped(made).SerializeToString())
    with pytest.raises(LoadRefused, match=r"input x is of type seq\(tensor\(float\)\)"):
        load(tmp_path)


def test_several_files_of_other_names_are_refused(tmp_path):
    for name in ("a.onnx", "b.onnx"):
        onnx.save_model(network(1), tmp_path / name)
    with pytest.raises(LoadRefused, match=r"found a\.onnx, b\.onnx"):
        load(tmp_path)
    onnx.save_model(network(1), tmp_path / "model.onnx")
    load(tmp_path)


def test_onnx_runtime_reports_nothing_home(tmp_path):
    source = "from loaders.onnx_loader import LOADER; LOADER.prepare()"
    places = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}  # and nothing that says it is a test
    subprocess.run([sys.executable, "-c", source], check=True, env=places)
    assert list(tmp_path.iterdir()) == []  # it leaves the identifier that it reports


FUZZ = """
import random, sys
from pathlib import Path
from loaders.contract import LoadRefused, Payload, Trust
from loaders.onnx_loader import LOADER

source, place = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
dice = random.Random(7)
loaded = refused = 0
for _ in range(400):
    data = bytearray(source)
    for _ in range(dice.choice((1, 1, 3))):
        data[dice.randrange(len(data))] = dice.randrange(256)
    (place / "model.onnx").write_bytes(data)
    try:
        model = LOADER.load(place, Trust(code=False))
        model.predict([Payload(b"[1,2,3,4,5,6,7,8]")])
        loaded += 1
    except LoadRefused:
        refused += 1
print(loaded > 20, refused > 20)
"""


def test_a_file_with_wrong_bytes_in_it_ends_no_process(tmp_path):
    from skl2onnx import to_onnx  # noqa: PLC0415 - seconds that most tests need not spend
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415

    rows = np.random.default_rng(1).normal(size=(40, FEATURES)).astype(np.float32)
    forest = RandomForestClassifier(3, max_depth=3, random_state=1).fit(rows, rows[:, 0] > 0)
    made = to_onnx(forest, rows[:1])
    (tmp_path / "sound").write_bytes(made.SerializeToString())
    (tmp_path / "case").mkdir()
    command = [sys.executable, "-c", FUZZ, str(tmp_path / "sound"), str(tmp_path / "case")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True True\n"), done.stderr[-500:]


def test_a_closed_model_lets_go_of_its_session(tmp_path):
    onnx.save_model(network(1), tmp_path / "model.onnx")
    model = load(tmp_path)
    assert model._session is not None
    model.close()
    assert model._session is None

"""The TensorFlow loader: TensorFlow Serving's requests and answers, trust, and what it refuses."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from loaders.contract import Answer, LoadRefused, Model, Payload, Trust
from loaders.tensorflow_loader import LOADER

LOADER.prepare()

import keras  # noqa: E402 - only now: how talkative it is was set by `prepare`
import tensorflow as tf  # noqa: E402


class Texts(tf.Module):
    """Takes texts and integers, answers three outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = tf.Variable(2, dtype=tf.int64)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([None, 2], tf.int64)]
    )
    def serve(self, text, numbers):
        total = tf.reduce_sum(numbers, 1) * self.factor
        return {"upper": tf.strings.upper(text), "total": total, "text": text}


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Model:
    directory = tmp_path_factory.mktemp("texts")
    module = Texts()
    tf.saved_model.save(module, str(directory), signatures={"serving_default": module.serve})
    return LOADER.load(directory, Trust())


def save(model, path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):  # of numpy about keras
        model.save(path)


def ask(model: Model, document, content_type: str | None = None, accept: str | None = None):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    [answer] = model.predict([Payload(body, content_type, accept)])
    return json.loads(answer.body) if isinstance(answer, Answer) else answer


def test_rows_are_answered_as_predictions_by_output_name(texts):
    rows = [{"text": "a", "numbers": [1, 2]}, {"text": {"b64": "/w=="}, "numbers": [3, 4]}]
    assert ask(texts, {"instances": rows}) == {
        "predictions": [
            {"text": "a", "total": 6, "upper": "A"},
            {"text": {"b64": "/w=="}, "total": 14, "upper": {"b64": "/w=="}},
        ]
    }


def test_columns_are_answered_as_outputs(texts):
    found = ask(texts, {"inputs": {"text": ["a", "b"], "numbers": [[1, 2], [3, 4]]}})
    assert found == {"outputs": {"text": ["a", "b"], "total": [6, 14], "upper": ["A", "B"]}}


def test_an_object_alone_and_objects_a_line_are_instances(texts):
    line = json.dumps({"text": "a", "numbers": [1, 2]}).encode()
    assert len(ask(texts, line)["predictions"]) == 1
    assert len(ask(texts, line + b"\n" + line)["predictions"]) == 2
    assert len(ask(texts, line + b"\n" + line, "application/jsonlines")["predictions"]) == 2


@pytest.mark.parametrize(
    "document",
    [
        {"instances": [{"text": "a", "numbers": [1.5, 2]}]},
        {"instances": [{"text": 1, "numbers": [1, 2]}]},
        {"instances": [{"text": "a"}]},
        {"instances": [{"text": "a", "numbers": [1, 2, 3]}]},
        {"inputs": {"text": ["a", "b"], "numbers": [1, 2]}},
        {"instances": []},
        {},
    ],
)
def test_what_the_signature_does_not_take_is_the_clients_fault(texts, document):
    assert ask(texts, document).status in {400, 415}


def test_values_that_only_the_graph_finds_wrong_are_a_bad_payload(tmp_path):
    model = keras.Sequential([keras.Input((2,), dtype="int32"), keras.layers.Embedding(10, 3)])
    save(model, tmp_path / "net.keras")
    loaded = LOADER.load(tmp_path, Trust(code=False))
    assert np.shape(ask(loaded, [[1, 9]])["predictions"]) == (1, 2, 3)
    fault = ask(loaded, [[1, 99]])
    assert fault.status == 400
    assert "shapes or values" in str(fault)


@pytest.mark.parametrize("structure", ["dict", "list"])
def test_a_keras_model_of_several_inputs_is_asked_by_their_names(tmp_path, structure):
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    total, gap = keras.layers.Add(name="total")([a, b]), keras.layers.Subtract(name="gap")([a, b])
    if structure == "dict":
        model = keras.Model({"a": a, "b": b}, {"total": total, "gap": gap})
    else:
        model = keras.Model([a, b], [total, gap])
    save(model, tmp_path / "net.keras")
    loaded = LOADER.load(tmp_path, Trust(code=False))
    found = ask(loaded, {"instances": [{"b": [1, 2], "a": [3, 5]}]})
    assert found == {"predictions": [{"gap": [2, 3], "total": [4, 7]}]}
    assert ask(loaded, b"1,2", "text/csv").status == 400


def test_code_in_a_keras_archive_needs_trust(tmp_path):
    layers = [keras.Input((2,)), keras.layers.Lambda(lambda x: x * 2, output_shape=(2,))]
    save(keras.Sequential(layers), tmp_path / "net.keras")
    with pytest.raises(LoadRefused, match=r"brings code.* only data is trusted"):
        LOADER.load(tmp_path, Trust(code=False))
    assert ask(LOADER.load(tmp_path, Trust()), [1, 2]) == {"predictions": [[2, 4]]}


def test_layers_are_in_the_mode_that_predicts(tmp_path):
    save(
        keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.9)]),
        tmp_path / "net.keras",
    )
    assert ask(LOADER.load(tmp_path, Trust()), [1, 1, 1, 1]) == {"predictions": [[1, 1, 1, 1]]}


def test_rows_are_joined_only_where_all_of_them_are_free(tmp_path, texts):
    assert texts._predictor.independent
    for batch, joined in ((None, True), (1, False)):
        model = keras.Sequential([keras.Input(batch_shape=(batch, 2)), keras.layers.Dense(1)])
        save(model, tmp_path / "net.keras")
        loaded = LOADER.load(tmp_path, Trust())
        assert loaded._predictor.independent is joined


def test_a_saved_model_without_the_signature_is_refused_naming_its_own(tmp_path):
    module = Texts()
    tf.saved_model.save(module, str(tmp_path), signatures={"other": module.serve})
    with pytest.raises(LoadRefused, match=r"no signature serving_default, but \['other'\]"):
        LOADER.load(tmp_path, Trust())


@pytest.mark.parametrize("is_another", [False, True])
@pytest.mark.parametrize("gone", ["saved_model.pb", "variables.index", "variables.data-00000-of-*"])
def test_a_refusal_names_versions_where_they_differ_and_no_path(tmp_path, gone, is_another):
    module = Texts()
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.serve})
    graphs = tmp_path / "saved_model.pb"
    version = tf.__version__.encode()
    if is_another:
        graphs.write_bytes(graphs.read_bytes().replace(version, b"9" + version[1:]))
    [path] = tmp_path.rglob(gone)
    path.write_bytes(b"\x00" * 10)
    with pytest.raises(LoadRefused, match=r"^Unable to load model: ") as it:
        LOADER.load(tmp_path, Trust())
    assert str(tmp_path) not in str(it.value)
    assert "\n" not in str(it.value)
    told = f"(saved by tensorflow 9{tf.__version__[1:]}, installed is tensorflow {tf.__version__})"
    is_told = is_another and path != graphs
    assert (told in str(it.value)) is is_told
    assert (tf.__version__ in str(it.value)) is is_told


@pytest.mark.parametrize("content", [b"PK\x03\x04" + bytes(100), b"garbage"])
def test_an_archive_that_is_none_is_refused_naming_no_version(tmp_path, content):
    (tmp_path / "m.keras").write_bytes(content)
    with pytest.raises(LoadRefused, match=r"^Unable to load model: m\.keras: ") as it:
        LOADER.load(tmp_path, Trust())
    for library in (tf, keras):
        assert library.__version__ not in str(it.value)


def test_several_archives_are_refused(tmp_path):
    for name in ("a.keras", "b.keras"):
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(LoadRefused, match=r"found a\.keras, b\.keras"):
        LOADER.load(tmp_path, Trust())


def test_one_thread_predicts():
    assert tf.config.threading.get_intra_op_parallelism_threads() == 1
    assert tf.config.threading.get_inter_op_parallelism_threads() == 1


def test_a_closed_model_lets_go_of_its_variables(tmp_path):
    save(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), tmp_path / "net.keras")
    model = LOADER.load(tmp_path, Trust())
    assert model.nbytes() == 3 * 4
    model.close()
    assert model._graph is None

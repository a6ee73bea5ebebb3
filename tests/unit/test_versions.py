"""Folders of versions: which file of an archive is the model, and which loader takes it."""

from __future__ import annotations

import pytest

from loaders.contract import LoadRefused
from loaders.find import find_loader
from loaders.versions import newest


def lay_out(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\x08\x01")


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["m.pb"], "m.pb"),
        (["9/m.pb", "10/m.pb"], "10/m.pb"),
        (["net/9/m.pb", "net/10/m.pb"], "net/10/m.pb"),
        (["export/Servo/1700/m.pb", "export/Servo/1699/m.pb"], "export/Servo/1700/m.pb"),
        (["m.pb", "2/m.pb"], "m.pb"),
        (["net/1/other.pb"], None),
        (["a/b/c/d/m.pb"], None),
    ],
)
def test_the_highest_version_nearest_to_the_root_is_taken(tmp_path, names, wanted):
    lay_out(tmp_path, *names)
    assert newest(tmp_path, "m.pb") == (tmp_path / wanted if wanted else None)


def test_several_models_are_refused_by_name(tmp_path):
    lay_out(tmp_path, "a/1/m.pb", "b/1/m.pb")
    with pytest.raises(LoadRefused, match="several models: a, b"):
        newest(tmp_path, "m.pb")


@pytest.mark.parametrize(
    ("names", "framework"),
    [
        (["model.onnx"], "onnx"),
        (["my.onnx", "weights.bin"], "onnx"),
        (["net/config.pbtxt", "net/1/model.onnx"], "onnx"),
        (["1/model.onnx"], "onnx"),
        (["saved_model.pb", "variables/variables.index"], "tensorflow"),
        (["7/saved_model.pb", "7/variables/variables.index"], "tensorflow"),
        (["net/7/saved_model.pb"], "tensorflow"),
        (["export/Servo/7/saved_model.pb", "notes.txt"], "tensorflow"),
        (["net.keras"], "tensorflow"),
    ],
)
def test_layouts_of_onnx_and_tensorflow_are_found(tmp_path, names, framework):
    lay_out(tmp_path, *names)
    assert find_loader(tmp_path).loader.name == framework


def test_mxnet_is_refused_with_what_to_convert_to(tmp_path):
    lay_out(tmp_path, "model-shapes.json", "model-0000.params")
    (tmp_path / "model-symbol.json").write_text('{"nodes": []}')
    with pytest.raises(LoadRefused, match=r"MXNet, which is retired\. Convert it to ONNX"):
        find_loader(tmp_path)

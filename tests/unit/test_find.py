"""Which loader a directory is for: by contents, then by name, and never by running anything."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import pickle
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

from loaders.contract import LoadRefused
from loaders.find import ROWS, find_framework, find_loader, loader_by_name
from loaders.samples import train_torch, train_xgboost
from loaders.sniff import sniff


class Plain:
    pass


class Trap:
    """Loaded, it creates a directory."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self):
        return (os.mkdir, (str(self.sign),))


@pytest.mark.parametrize("name", ["model.json", "model.ubj", "xgboost-model", "whatever"])
def test_an_xgboost_model_is_found_under_any_name(tmp_path, name):
    train_xgboost(tmp_path / name, 1, trees=2)
    found = find_loader(tmp_path)
    assert found.loader.name == "xgboost"
    assert found.root == tmp_path
    assert found.took_for.startswith(f"{name}: xgboost ")


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "net.bin"])
def test_a_torchscript_archive_is_found_under_any_name(tmp_path, name):
    train_torch(tmp_path / name, 1)
    assert find_loader(tmp_path).took_for == f"{name}: torchscript"


@pytest.mark.parametrize(
    ("name", "framework"),
    [("a.ubj", "xgboost"), ("a.bst", "xgboost"), ("xgboost-model", "xgboost"), ("a.pt2", "torch")],
)
def test_where_the_contents_tell_nothing_the_name_does(tmp_path, name, framework):
    (tmp_path / name).write_bytes(b"\x00garbage")
    found = find_loader(tmp_path)
    assert (found.loader.name, found.took_for) == (framework, f"{name}: by its name")


def test_contents_win_over_names(tmp_path):
    train_xgboost(tmp_path / "model.ubj", 1, trees=2)
    (tmp_path / "model.ubj").rename(tmp_path / "model.pt")
    assert find_loader(tmp_path).loader.name == "xgboost"


def test_a_folder_packed_whole_is_looked_into(tmp_path):
    inner = tmp_path / "my model"
    inner.mkdir()
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "__MACOSX").mkdir()
    train_xgboost(inner / "model.json", 1, trees=2)
    assert find_loader(tmp_path).root == inner


def test_what_is_not_recognised_is_listed_with_what_would_be(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "tree.pkl").write_bytes(pickle.dumps(Path("x")))
    for number in range(20):
        (tmp_path / f"z{number:02}").write_bytes(b"")
    with pytest.raises(LoadRefused) as caught:
        find_loader(tmp_path)
    message = str(caught.value)
    assert "data (a folder), notes.txt (unknown), tree.pkl (pickle of pathlib.P" in message
    assert "and 13 more" in message
    assert all(row.accepts in message for row in ROWS)


def test_an_empty_directory_is_refused(tmp_path):
    with pytest.raises(LoadRefused, match="found nothing"):
        find_loader(tmp_path)


def test_a_models_own_script_comes_before_what_else_it_holds(tmp_path):
    train_xgboost(tmp_path / "model.json", 1, trees=2)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text("def input_fn(): ...")
    assert find_loader(tmp_path).loader.name == "script"
    assert find_framework(tmp_path).loader.name == "xgboost"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("pack", [bytes, zlib.compress, gzip.compress, bz2.compress, lzma.compress])
def test_a_pickle_is_named_by_its_class_in_every_protocol_and_compression(tmp_path, protocol, pack):
    path = tmp_path / "model"
    path.write_bytes(pack(pickle.dumps(Plain(), protocol=protocol)))
    assert sniff(path) == f"pickle of {__name__}.Plain"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_looking_at_a_pickle_does_not_load_it(tmp_path, protocol):
    sign = tmp_path / ".sign"
    path = tmp_path / "tree.pkl"
    path.write_bytes(pickle.dumps(Trap(sign), protocol=protocol))
    assert sniff(path).startswith("pickle")
    with pytest.raises(LoadRefused):
        find_loader(tmp_path)
    assert not sign.exists()
    pickle.loads(path.read_bytes())
    assert sign.exists()  # the trap does work


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty"),
        (b"hello", "unknown"),
        (b'{"a": 1}', "json"),
        (b"{L\x00", "unknown"),
        (b"binf" + bytes(100), "xgboost binary"),
        (b"tree\nversion=v4\n", "lightgbm text"),
        (b"CBM1" + bytes(100), "catboost cbm"),
        (b'{\n  "features_info":\n {"learner"', "catboost json"),
        (zlib.compress(b"hello"), "unknown"),
        (b"x\x9cgarbage", "unknown"),
        (b"BZhgarbage", "unknown"),
        (b"PK\x03\x04garbage", "zip"),
        (b"\x80\x04garbage", "unknown"),
        (bytes.fromhex("80028a0a6cfc9c46f9206aa850192e"), "torch weights"),
    ],
)
def test_first_bytes_name_the_kind(tmp_path, content, kind):
    (tmp_path / "file").write_bytes(content)
    assert sniff(tmp_path / "file") == kind


def test_a_zip_of_something_else_is_only_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "file", "w") as archive:
        archive.writestr("a/b", "c")
    assert sniff(tmp_path / "file") == "zip"


def test_a_loader_is_had_by_its_name():
    names = [row.framework for row in ROWS]
    assert [loader_by_name(name).name for name in names] == names
    with pytest.raises(LoadRefused, match="there are xgboost, torch"):
        loader_by_name("cobol")


def test_looking_imports_no_framework(tmp_path):
    train_xgboost(tmp_path / "model.json", 1, trees=2)
    look = (
        "import sys, pathlib, loaders.find\n"
        "assert 'numpy' not in sys.modules\n"
        f"loaders.find.find_loader(pathlib.Path({str(tmp_path)!r}))\n"
        "print({'xgboost', 'torch', 'asyncio', 'mme'} & set(sys.modules))"
    )
    seen = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert seen.stdout == "set()\n"


def command(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_command_says_what_a_directory_is(tmp_path):
    train_xgboost(tmp_path / "model.json", 1, trees=2)
    done = command("loaders.find", tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "framework": "xgboost",
        "root": str(tmp_path),
        "took_for": "model.json: xgboost json",
    }


@pytest.mark.parametrize("place", ["", "missing"])
def test_the_command_fails_with_the_reason(tmp_path, place):
    done = command("loaders.find", tmp_path / place)
    assert done.returncode == 1
    assert set(json.loads(done.stdout)) == {"error"}


def test_samples_are_written_with_a_manifest_and_progress(tmp_path):
    options = ("--tenants", 2, "--frameworks", "xgboost", "--trees", 3, "--features", 5)
    done = command("loaders.samples", tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["tenant"] for line in done.stdout.splitlines()] == [
        "tenant-01",
        "tenant-02",
    ]
    first, second = json.loads((tmp_path / "manifest.json").read_text())
    assert set(first) == {
        "tenant",
        "framework",
        "directory",
        "content_type",
        "payload",
        "predictions",
    }
    assert first["payload"] != second["payload"]
    assert find_loader(Path(first["directory"])).loader.name == "xgboost"

"""Which file of an archive is its script, and where its modules lie."""

from __future__ import annotations

import pytest

from loaders.find import find_loader
from loaders.script_files import find_script
from tests.scripts import write_files


@pytest.fixture
def root(tmp_path):
    write_files(tmp_path / "code", inference="", serve="", src__app="", lib__vendored="")
    write_files(tmp_path / "other", inference="")
    write_files(tmp_path, inference="")
    write_files(tmp_path.parent, outside="")
    return tmp_path


@pytest.mark.parametrize(
    ("program", "directory", "entry", "search"),
    [
        (None, None, "code/inference.py", ["code", "code/lib"]),
        ("serve.py", None, "code/serve.py", ["code", "code/lib"]),
        ("src/app.py", None, "code/src/app.py", ["code/src", "code", "code/lib"]),
        ("gone.py", None, "code/inference.py", ["code", "code/lib"]),
        ("serve", None, "code/inference.py", ["code", "code/lib"]),
        ("../../outside.py", None, "code/inference.py", ["code", "code/lib"]),
        ("/etc/passwd.py", None, "code/inference.py", ["code", "code/lib"]),
        (None, "/opt/ml/model/code", "code/inference.py", ["code", "code/lib"]),
        (None, "/opt/ml/model/other", "other/inference.py", ["other"]),
        (None, "/opt/ml/model", "inference.py", ["."]),
        (None, "other", "other/inference.py", ["other"]),
        ("serve.py", "other", "other/inference.py", ["other"]),
        (None, "../other", "code/inference.py", ["code", "code/lib"]),
        (None, "/srv/code", "code/inference.py", ["code", "code/lib"]),
        (None, "s3://bucket/source.tar.gz", "code/inference.py", ["code", "code/lib"]),
        (None, "gone", "code/inference.py", ["code", "code/lib"]),
    ],
)
def test_the_environment_names_the_script_where_the_archive_has_it(
    root, monkeypatch, program, directory, entry, search
):
    for name, value in (
        ("SAGEMAKER_PROGRAM", program),
        ("SAGEMAKER_SUBMIT_DIRECTORY", directory),
    ):
        if value:
            monkeypatch.setenv(name, value)
    script = find_script(root)
    assert script.entry == root / entry
    assert list(script.search) == [root / folder for folder in search]


def test_an_archive_without_one_has_none(tmp_path):
    (tmp_path / "code" / "inference.py").mkdir(parents=True)
    write_files(tmp_path, inference="")
    assert find_script(tmp_path) is None


@pytest.mark.parametrize("folder", [".", "packed whole"])
def test_a_script_is_found_in_an_archive_of_nothing_else(tmp_path, folder):
    write_files(tmp_path / folder / "code", inference="def model_fn(d): return 1")
    found = find_loader(tmp_path)
    assert found.loader.name == "script"
    assert found.root == (tmp_path / folder).resolve()

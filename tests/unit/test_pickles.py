"""Pickles and joblib files of any framework: which reader they need, and what is inside."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import joblib
import numpy as np
import pytest
import xgboost

from loaders.contract import LoadRefused, Payload, Trust
from loaders.find import find_loader
from loaders.pickles import RAISED_BY_PICKLES, contents, first_bytes, read_pickle

OBJECT = {"numbers": np.arange(20_000.0), "texts": ["a", "b"]}


def same(found: dict) -> bool:
    return np.array_equal(found["numbers"], OBJECT["numbers"]) and found["texts"] == ["a", "b"]


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)])
def test_what_joblib_saved_is_read_and_its_contents_can_be_seen(tmp_path, compress):
    path = tmp_path / "file"
    joblib.dump(OBJECT, path, compress=compress)
    assert same(read_pickle(path))
    assert b"joblib.numpy_pickle" in b"".join(contents(path))
    assert b"".join(contents(path)).startswith(first_bytes(path)[:1000])


def test_a_plain_pickle_is_read_without_joblib(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps(OBJECT))
    monkeypatch.setattr(joblib, "load", None)
    assert same(read_pickle(path))


@pytest.mark.parametrize("compress", [0, 3, ("bz2", 3), ("xz", 3)])
@pytest.mark.parametrize("share", [0, 0.01, 0.9])
def test_a_file_cut_short_raises_what_is_expected(tmp_path, compress, share):
    path = tmp_path / "file"
    joblib.dump(OBJECT, path, compress=compress)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(RAISED_BY_PICKLES):
        read_pickle(path)


@pytest.mark.parametrize("head", [b"x\x9c", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0", b"]\0\0\x80"])
def test_garbage_that_looks_compressed_has_no_contents(tmp_path, head):
    path = tmp_path / "file"
    path.write_bytes(head + b"garbage" * 10)
    assert first_bytes(path) == b""


@pytest.mark.parametrize("compress", [0, 3])
def test_an_xgboost_model_saved_by_joblib_answers_as_any_other(tmp_path: Path, compress: int):
    table = xgboost.DMatrix(np.eye(4), [0, 1, 0, 1])
    booster = xgboost.train({"nthread": 1}, table, 3)
    joblib.dump(booster, tmp_path / "model.joblib", compress=compress)
    found = find_loader(tmp_path)
    assert found.loader.name == "xgboost"
    with pytest.raises(LoadRefused, match="only data is trusted"):
        found.loader.load(found.root, Trust(code=False))
    [answer] = found.loader.load(found.root, Trust()).predict([Payload(b"1,0,0,0", "text/csv")])
    assert json.loads(answer.body) == booster.predict(table)[:1].tolist()

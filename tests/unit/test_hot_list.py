"""What was hot: it fades, it is written whole, and what can't be read is nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mme.cache.hot_list import Heat, HotModel, read_hot_list, write_hot_list
from mme.domain import ModelKey

HERE = "s3://bucket/models/"
MODELS = [HotModel("b.tar.gz", "etag-b", 20, 7.5), HotModel("ä/a.tar.gz", "etag-a", 10, 1.0)]


def test_what_is_written_is_read_again_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "hot.json"
    assert read_hot_list(path, HERE) == []
    write_hot_list(path, HERE, MODELS)
    write_hot_list(path, HERE, MODELS)
    assert read_hot_list(path, HERE) == MODELS
    assert [file.name for file in tmp_path.iterdir()] == ["hot.json"]


def test_another_stores_list_is_none(tmp_path: Path) -> None:
    write_hot_list(tmp_path / "hot.json", HERE, MODELS)
    assert read_hot_list(tmp_path / "hot.json", "s3://another/") == []


@pytest.mark.parametrize(
    "damaged",
    [b"", b"{", b"[]", b'{"format": 2, "location": "s3://bucket/models/", "models": []}', b"\xff"],
)
def test_a_damaged_list_is_an_empty_one(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "hot.json").write_bytes(damaged)
    assert read_hot_list(tmp_path / "hot.json", HERE) == []


@given(cut=st.integers(0, 150), garbage=st.binary(max_size=20))
def test_any_damage_gives_models_or_nothing(tmp_path_factory, cut: int, garbage: bytes) -> None:
    path = tmp_path_factory.mktemp("hot") / "hot.json"
    write_hot_list(path, HERE, MODELS)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut] + garbage + whole[cut + len(garbage) :])
    assert all(isinstance(model, HotModel) for model in read_hot_list(path, HERE))


def test_of_too_many_the_hottest_are_kept(tmp_path: Path) -> None:
    many = [HotModel(f"{number}", "etag", 1, 1e6 - number) for number in range(20_010)]
    write_hot_list(tmp_path / "hot.json", HERE, many)
    assert read_hot_list(tmp_path / "hot.json", HERE) == many[:20_000]


def measured(
    heat: Heat, copies: list[tuple[str, ModelKey, int]], now: float
) -> dict[ModelKey, float]:
    """One after the other, as slices."""
    heat.begin(now)
    for copy in copies:
        heat.count([copy])
    return heat.end()


def test_a_measurement_that_was_given_up_changes_nothing() -> None:
    heat = Heat({ModelKey("m"): 8.0}, now=0.0)
    heat.begin(300.0)
    heat.count([("m", ModelKey("m"), 5)])
    assert measured(heat, [("m", ModelKey("m"), 5)], 600.0) == {"m": 9.0}


def test_heat_counts_uses_and_halves_in_ten_minutes() -> None:
    heat = Heat({ModelKey("old"): 8.0, ModelKey("gone"): 5.0}, now=0.0)
    first = [("o", "old", 0), ("n", "new", 3)]
    assert measured(heat, first, 600.0) == {"old": 4.0, "new": 3.0}
    second = [("o", "old", 1), ("n", "new", 5)]
    assert measured(heat, second, 1200.0) == {"old": 3.0, "new": 3.5}


def test_the_uses_of_a_models_copies_add_up_though_copies_come_and_go() -> None:
    heat = Heat({}, now=0.0)
    assert measured(heat, [("m", "m", 100), ("m+1", "m", 50)], 0.0) == {"m": 150.0}
    assert measured(heat, [("m", "m", 101)], 0.0) == {"m": 151.0}
    assert measured(heat, [("m+2", "m", 2)], 0.0) == {"m": 153.0}

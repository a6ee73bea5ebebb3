"""What clients are told of libraries' and models' own words."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mme.workers.wording import without_paths


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("No such file: '/var/cache/mme/models/3f9a/x.json'", "No such file: 'x.json'"),
        ('File "/usr/lib/python3.11/json/__init__.py", line 3', 'File "__init__.py", line 3'),
        ("in /tmp/a/b/: no", "in : no"),
        ("/etc/a:/etc/b file:///etc/c", "a:b file://c"),
        ("Failed to open (/home/me/m.bin)", "Failed to open (m.bin)"),
        ("no https://me:secret@index.example/simple/", "no https://index.example/simple/"),
    ],
)  # fmt: skip
def test_a_path_of_this_machine_is_told_by_its_last_part(said, told):
    assert without_paths(said) == told


@pytest.mark.parametrize(
    "said",
    [
        "text/csv, application/json; 3/4 of it",
        "no item at /instances/0/b64",
        "POST /v1/items/3 of https://host.example/tmp/x",
        "code/inference.py, ./tmp/x and ../etc/y",
        "a / b // c",
    ],
)
def test_what_is_no_path_of_this_machine_is_told_as_it_is(said):
    assert without_paths(said) == said


@given(st.text(), st.sampled_from([sys.prefix, str(Path.home()), "/usr/lib"]), st.text("abc.é"))
def test_no_directory_is_told_whatever_stands_around_it(before, directory, name):
    assert f"{directory}/" not in without_paths(f"{before} {directory}/sub/{name}")


def test_a_long_text_takes_no_longer_than_a_short_one():
    assert len(without_paths("/usr/" * 1_000_000)) < 20_000

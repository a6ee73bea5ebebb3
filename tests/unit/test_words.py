"""Bytes and seconds as people read them."""

from __future__ import annotations

import pytest

from mme.cli.words import in_bytes, in_seconds


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [
        (None, "-"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (15 * 1024, "15 KiB"),
        (2**20, "1.0 MiB"), (3 * 2**30, "3.0 GiB"), (2**50, "1024 TiB"),
    ],
)  # fmt: skip
def test_bytes_are_told_in_their_largest_unit(size_bytes, words):
    assert in_bytes(size_bytes) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (0.0012, "1.2 ms"), (0.0123, "12 ms"), (1.25, "1.2 s"), (75, "1m15s")],
)
def test_seconds_are_told_as_finely_as_they_matter(seconds, words):
    assert in_seconds(seconds) == words

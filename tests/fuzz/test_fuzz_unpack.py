"""Sound archives bent and cut at random: what was in them, less than it, or a refusal; no more."""

from __future__ import annotations

import gzip

import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz.depth import examples
from tests.fuzz.targets import check_archive
from tests.tarballs import tar

PLAIN = tar({"a/b": b"1" * 700, "a/long" + "g" * 120: b"2", "é": b"3"})
GZIP, ZSTD = gzip.compress(PLAIN, mtime=0), zstandard.compress(PLAIN)
BENDS = st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), max_size=5)


@settings(examples, max_examples=max(100, examples.max_examples // 2))
@given(st.sampled_from([PLAIN, GZIP, ZSTD]), BENDS, st.integers(0, 20_000))
@example(PLAIN, [], 512)
@example(GZIP, [(3, 4)], 0)  # a flag that announces an extra field
@example(PLAIN, [(124, 0x80)], 0)  # a size in base 256
@example(PLAIN, [(156, ord("L"))], 0)
def test_a_bent_archive_is_refused_or_stays_in_its_directory(whole, bends, cut):
    blob = bytearray(whole)
    for place, value in bends:
        blob[place % len(blob)] = value
    check_archive(bytes(blob[: (cut % len(blob)) or None]), len(PLAIN))

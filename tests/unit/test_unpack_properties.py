"""For any archive, damage and split of the bytes: it comes out whole, or is refused."""

from __future__ import annotations

import gzip
import tarfile
import tempfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mme.config import DiskConfig
from mme.errors import ArtifactRefused
from tests.tarballs import BLOCK, header, tar
from tests.unpacking import tree, unpacked

LIMITS = DiskConfig(unpacked_limit_bytes=10_000_000)
WRAPS = st.sampled_from([gzip.compress, zstandard.compress, bytes])
CONTENT = st.binary(max_size=1500)
SEGMENT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=60
).filter(lambda text: text not in (".", ".."))
NAME = st.lists(SEGMENT, min_size=1, max_size=4).map("/".join)
HOSTILE = st.one_of(
    st.binary(max_size=100),
    st.lists(st.sampled_from([b"..", b".", b"", b"a", b"b", b"\0", b"/"]), max_size=20).map(
        lambda parts: b"/".join(parts)[:100]
    ),
)
MEMBER = st.tuples(HOSTILE, st.sampled_from(list(b"0123456757gxLKSZ\0")), CONTENT)
EXAMPLES = settings(max_examples=150, deadline=None)


def outcome(blob: bytes, cuts: tuple[int, ...] = ()) -> dict[str, bytes | None] | None:
    """What came out; None where it was refused. Nothing else may be left, or raised."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "inner" / "x"
        directory.parent.mkdir()
        try:
            unpacked(blob, directory, limits=LIMITS, cuts=cuts)
        except ArtifactRefused:
            assert list(directory.parent.iterdir()) == []
            return None
        finally:
            assert list(Path(scratch).iterdir()) == [directory.parent]
        assert list(directory.parent.iterdir()) == [directory]
        assert not any(path.is_symlink() for path in directory.rglob("*"))
        return tree(directory)


def raw_member(name: bytes, kind: int, content: bytes) -> bytes:
    size = b"%011o\0" % len(content)
    return header(name, kind=bytes([kind]), size=size) + content + bytes(-len(content) % BLOCK)


@EXAMPLES
@given(st.lists(MEMBER, max_size=6), WRAPS)
def test_no_name_and_no_kind_of_member_escapes(members, wrap) -> None:
    blob = b"".join(raw_member(*member) for member in members) + bytes(2 * BLOCK)
    outcome(wrap(blob))


@EXAMPLES
@given(st.binary(max_size=3000), st.sampled_from([b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"]))
def test_garbage_is_refused(garbage, magic) -> None:
    assert outcome(magic + garbage) is None


@pytest.mark.parametrize("name", ["<", "{", "BZh91"])
def test_a_plain_tar_is_one_whatever_its_first_member_is_called(name) -> None:
    assert outcome(tar({name: b"x"})) == {name: b"x"}


@EXAMPLES
@given(
    st.dictionaries(NAME, CONTENT, min_size=1, max_size=5),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    WRAPS,
    st.data(),
)
def test_every_split_of_the_bytes_gives_what_tarfile_wrote(files, form, wrap, data) -> None:
    blob = wrap(tar(files, tar_format=form))
    cuts = data.draw(st.lists(st.integers(0, len(blob)), max_size=30))
    found = outcome(blob, tuple(cuts))
    paths = list(files)
    nested = any(a != b and f"{b}/".startswith(f"{a}/") for a in paths for b in paths)
    too_long = any(len(part.encode()) > 255 for path in paths for part in path.split("/"))
    if nested or too_long:
        assert found is None
    else:
        assert {name: content for name, content in found.items() if content is not None} == files


@EXAMPLES
@given(
    st.dictionaries(NAME, CONTENT, min_size=1, max_size=3),
    WRAPS,
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=3),
)
def test_damage_is_refused_or_harmless(files, wrap, flips) -> None:
    blob = bytearray(wrap(tar(files)))
    for place, bits in flips:
        blob[place % len(blob)] ^= bits
    outcome(bytes(blob))

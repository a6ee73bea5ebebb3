"""Hostile, damaged and foreign objects: each is refused with a reason, and leaves nothing."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard

from mme.config import DiskConfig
from tests.tarballs import BLOCK, entry, header, joined, tar, tarball
from tests.unpacking import assert_refused, tree, unpacked

END = bytes(2 * BLOCK)
SOUND = tar({"first": b"1" * 700, "d/second": b"2" * 100, "third": b""})
ZEROS = bytes(70 * 1024**2)  # over what is exempt from the ratio


def of_kind(kind: bytes, link: str = "") -> bytes:
    return joined([(entry("model"), b"x"), (entry("odd", kind, link), b"")])


def pax(records: dict[str, str]) -> bytes:
    info = entry("model")
    info.pax_headers = records
    return joined([(info, b"x" * 600)])


MEMBERS = {
    "symbolic link": (of_kind(tarfile.SYMTYPE, "/etc/passwd"), "'odd' is a symbolic link.*--deref"),
    "hard link": (of_kind(tarfile.LNKTYPE, "model"), "'odd' is a hard link"),
    "character device": (of_kind(tarfile.CHRTYPE), "character device"),
    "block device": (of_kind(tarfile.BLKTYPE), "block device"),
    "pipe": (of_kind(tarfile.FIFOTYPE), "named pipe"),
    "sparse": (header(b"m", kind=b"S") + END, "sparse"),
    "sparse by pax": (pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}), "sparse"),
    "long link": (joined([(entry("l", tarfile.SYMTYPE, "x" * 200), b"")]), "link"),
    "unknown type": (header(b"m", kind=b"Z") + END, "unknown type 'Z'"),
    "absolute": (joined([(entry("/etc/cron.d/x"), b"x")]), "'/etc/cron.d/x' has an absolute name"),
    "dots": (joined([(entry("a/../../x"), b"x")]), r"'\.\.'"),
    "dots by pax": (pax({"path": "../x"}), r"'\.\.'"),
    "nothing but dots": (joined([(entry(".."), b"x")]), r"'\.\.'"),
    "a file called dot": (joined([(entry("."), b"x")]), "twice"),
    "control characters": (header(b"a\x1b[2Jb") + END, r"'a\\x1b\[2Jb' has a control"),
    "not utf-8": (header(b"mod\xe9l") + END, "not UTF-8"),
    "no name": (header(b"") + END, "no name"),
    "deep": (joined([(entry("d/" * 40 + "x"), b"x")]), "deeper than 32"),
    "long name": (joined([(entry("d/" * 30 + "x" * 1000), b"x")]), "too long a name"),
    "long segment": (joined([(entry("x" * 256), b"x")]), "too long a name"),
    "twice": (joined([(entry("m"), b"1"), (entry("./m"), b"2")]), "'./m' comes twice"),
    "directory twice": (joined([(entry("d/"), b"")] * 2), "twice"),
    "file over directory": (joined([(entry("m/x"), b"1"), (entry("m"), b"2")]), "twice"),
    "file under file": (joined([(entry("m"), b"1"), (entry("m/x"), b"2")]), "under a member"),
    "directory over file": (joined([(entry("m"), b"1"), (entry("m/"), b"")]), "is a file"),
    "only directories": (joined([(entry("d/"), b"")]), "holds no file"),
    "nothing": (END, "holds no file"),
    "directory with content": (header(b"d/", kind=b"5", size=b"%011o\0" % 512) + END, "content"),
    "negative size": (header(b"m", size=b"\xff" * 12) + END, "impossible size"),
    "huge size": (header(b"m", size=b"\x80" + b"\xff" * 11) + END, "cut short"),
    "size not octal": (header(b"m", size=b"0x1f\0\0\0\0\0\0\0\0") + END, "impossible size"),
    "pax size not decimal": (pax({"size": "-1"}), "impossible size"),
    "pax malformed": (header(b"p", kind=b"x", size=b"%011o\0" % 4) + b"zz z" + END, "pax"),
    "long pax": (header(b"p", kind=b"x", size=b"%011o\0" % 200_000_000), "over-long header"),
    "headers on end": (header(b"p", kind=b"g") * 9 + SOUND, "too many extended"),
    "header for nothing": (header(b"p", kind=b"L", size=b"%011o\0" % 0) + END, "zero block"),
    "wrong checksum": (SOUND[:150] + bytes([SOUND[150] ^ 1]) + SOUND[151:], "checksum"),
    "damaged in the middle": (SOUND[: 3 * BLOCK] + b"\1" + SOUND[3 * BLOCK + 1 :], "checksum"),
    "one zero block": (SOUND[: 3 * BLOCK] + bytes(BLOCK) + SOUND[3 * BLOCK :], "lone zero"),
    "joined": (SOUND + SOUND, "goes on behind"),
}


@pytest.mark.parametrize(("blob", "says"), MEMBERS.values(), ids=MEMBERS)
@pytest.mark.parametrize("wrap", [gzip.compress, bytes], ids=["gzip", "plain"])
def test_a_hostile_archive_is_refused(blob: bytes, says: str, wrap: type, tmp_path: Path) -> None:
    assert_refused(wrap(blob), tmp_path / "x", says)


FOREIGN = {
    "empty": (b"", "empty"),
    "zip": (b"PK\x03\x04" + bytes(600), "a zip file"),
    "bzip2": (b"BZh91AY", "bzip2"),
    "xz": (b"\xfd7zXZ\0", "xz"),
    "json": (b'{"learner": {}}', "JSON"),
    "html": (b"<html>Not found</html>", "HTML"),
    "text": (b"hello" * 200, "no tarball"),
    "short": (b"hello", "cut short"),
    "gzip of text": (gzip.compress(b"hello" * 200), "no tarball"),
    "gzip of nothing": (gzip.compress(b""), "cut short"),
    "gzip header alone": (b"\x1f\x8b", "damaged or cut"),
    "zstd header alone": (b"\x28\xb5\x2f\xfd", "damaged or cut"),
    "zstd window of 2 GiB": (b"\x28\xb5\x2f\xfd\x00\xa8" + bytes(20), "damaged or cut"),
    "gzip in gzip": (gzip.compress(gzip.compress(SOUND)), "no tarball|cut short"),
}


@pytest.mark.parametrize(("blob", "says"), FOREIGN.values(), ids=FOREIGN)
def test_an_object_that_is_no_tarball_is_refused(blob: bytes, says: str, tmp_path: Path) -> None:
    assert_refused(blob, tmp_path / "x", says)


def test_an_archive_cut_at_any_block_is_refused(tmp_path: Path) -> None:
    blocks = 1 + 2 + 1 + 1 + 1  # three headers, two blocks of the first file and one of the second
    for cut in range(blocks + 2):
        assert_refused(gzip.compress(SOUND[: cut * BLOCK]), tmp_path / "x", "cut short|empty")
    unpacked(gzip.compress(SOUND[: (blocks + 2) * BLOCK]), tmp_path / "x")


@pytest.mark.parametrize(
    "blob",
    [gzip.compress(SOUND), zstandard.ZstdCompressor(write_checksum=True).compress(SOUND)],
    ids=["gzip", "zstd"],
)
def test_compressed_data_cut_at_any_byte_is_refused(blob: bytes, tmp_path: Path) -> None:
    for cut in range(len(blob)):
        assert_refused(blob[:cut], tmp_path / "x", "cut short|empty|checksum|too early")


def test_wrong_checksums_and_trailing_garbage_are_refused(tmp_path: Path) -> None:
    blob = gzip.compress(SOUND)
    summed = zstandard.ZstdCompressor(write_checksum=True).compress(SOUND)
    for damaged in (
        blob[:-8] + bytes([blob[-8] ^ 1]) + blob[-7:],  # the CRC
        blob[:-1] + bytes([blob[-1] ^ 1]),  # the length
        blob + b"garbage",
        summed[:-1] + bytes([summed[-1] ^ 1]),
        summed + b"garbage",
    ):
        assert_refused(damaged, tmp_path / "x", "damaged or cut short")


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_bomb_stops_at_the_limit_and_not_after_it(compress: type, tmp_path: Path) -> None:
    claimed: list[int] = []
    limits = DiskConfig(unpacked_limit_bytes=2_000_000)
    blob = compress(tar({"m": ZEROS}))
    with pytest.raises(Exception, match="unpacked_limit"):
        unpacked(blob, tmp_path / "x", limits=limits, claim=claimed.append)
    assert sum(claimed) <= 2_000_000
    assert_refused(blob, tmp_path / "x", "unpack_ratio_limit")


@pytest.mark.parametrize(
    "bomb",
    [SOUND + ZEROS, header(b"p", kind=b"x", size=b"%011o\0" % len(ZEROS)) + ZEROS],
    ids=["behind the end mark", "in a pax header"],
)
def test_bytes_that_would_never_be_written_count_too(bomb: bytes, tmp_path: Path) -> None:
    assert_refused(gzip.compress(bomb, 1), tmp_path / "x", "unpack_ratio_limit|over-long")


def test_small_models_of_zeros_are_no_bombs(tmp_path: Path) -> None:
    unpacked(tarball({"m": bytes(5_000_000)}), tmp_path / "x", limits=DiskConfig())
    assert (tmp_path / "x" / "m").stat().st_size == 5_000_000


def test_members_are_limited_with_the_directories_that_they_imply(tmp_path: Path) -> None:
    limits = DiskConfig(unpack_members_limit=10)
    unpacked(tarball({"a/b/c/d/e/f/g/h/i": b""}), tmp_path / "x", limits=limits)
    for names in (["a/b/c/d/e/f/g/h/i/j", "k"], [f"m{number}" for number in range(11)]):
        blob = tarball(dict.fromkeys(names, b""))
        assert_refused(blob, tmp_path / "y", "more than 10 members", limits)


def test_a_name_in_a_message_is_cut_and_harmless(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="has a control character") as caught:
        unpacked(joined([(entry("\n<script>" + "x" * 900), b"")]), tmp_path / "x")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_what_gnu_tar_writes_for_links_and_sparse_files_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.truncate(8 * 1024**3)
    for form in ("gnu", "pax"):
        archive = _gnu_tar(source, tmp_path, f"--format={form}", "--sparse")
        assert_refused(archive, tmp_path / "x", "sparse")
    (source / "sparse").unlink()
    (source / "model").write_bytes(b"x")
    (source / "link").symlink_to("model")
    assert_refused(_gnu_tar(source, tmp_path), tmp_path / "x", "'./link' is a symbolic link")
    (source / "link").unlink()
    os.link(source / "model", source / "name")
    assert_refused(_gnu_tar(source, tmp_path), tmp_path / "x", "is a hard link")
    unpacked(_gnu_tar(source, tmp_path, "--hard-dereference"), tmp_path / "x")
    assert tree(tmp_path / "x") == {"model": b"x", "name": b"x"}


def _gnu_tar(source: Path, scratch: Path, *flags: str) -> bytes:
    command = ["tar", "--create", "--gzip", *flags, "--file", scratch / "t", "-C", source, "."]
    subprocess.run(command, check=True)
    return (scratch / "t").read_bytes()


def test_tarfile_agrees_on_what_is_sound() -> None:
    with tarfile.open(fileobj=io.BytesIO(SOUND)) as archive:
        assert archive.getnames() == ["first", "d/second", "third"]

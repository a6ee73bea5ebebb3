"""What a build has left is copied as plain files, or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mme.workers.plain_copy import NotPlain, copy_plainly


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    (directory / "package").mkdir(parents=True)
    (directory / "package" / "module.py").write_text("x")
    return directory


def test_files_keep_their_content_their_times_and_that_they_are_programs(
    tmp_path: Path, source: Path
) -> None:
    program = source / "program"
    program.write_text("#!/bin/sh")
    program.chmod(0o4700)
    os.utime(source / "package" / "module.py", ns=(1, 2_000_000_001))
    copy_plainly(source, tmp_path / "target")
    module = tmp_path / "target" / "package" / "module.py"
    assert module.read_text() == "x"
    assert module.stat().st_mtime_ns == 2_000_000_001
    assert not module.stat().st_mode & stat.S_IXUSR
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "target" / "program").stat().st_mode) == 0o777 & ~mask


def test_a_copy_is_another_file(tmp_path: Path, source: Path) -> None:
    copy_plainly(source, tmp_path / "target")
    (tmp_path / "target" / "package" / "module.py").write_text("y")
    assert (source / "package" / "module.py").read_text() == "x"


def test_only_what_is_wanted_is_copied(tmp_path: Path, source: Path) -> None:
    (source / "package" / "other.py").write_text("y")
    copy_plainly(source, tmp_path / "target", only={Path("package/module.py")})
    copied = [path.name for path in (tmp_path / "target").rglob("*.*")]
    assert copied == ["module.py"]


def test_a_link_in_its_place_is_refused(tmp_path: Path, source: Path) -> None:
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(NotPlain, match="link is no directory"):
        copy_plainly(tmp_path / "link", tmp_path / "target")


@pytest.mark.parametrize(
    "leave",
    [
        lambda at: at.symlink_to("/etc/passwd"),
        lambda at: at.symlink_to("/etc"),
        lambda at: at.symlink_to("nowhere"),
        os.mkfifo,
        lambda at: Path(at, *"d" * 65).mkdir(parents=True),
    ],
    ids=["link to a file", "link to a directory", "link to nothing", "pipe", "deep"],
)
def test_what_is_no_plain_file_is_refused(
    tmp_path: Path, source: Path, leave: Callable[[Path], object]
) -> None:
    leave(source / "package" / "left")
    with pytest.raises(NotPlain):
        copy_plainly(source, tmp_path / "target")

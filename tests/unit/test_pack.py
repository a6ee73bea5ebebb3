"""`mme pack`: the same bytes every time, nothing that a server refuses, nothing half written."""

from __future__ import annotations

import os
import tarfile

import pytest

from mme.cli.pack import pack_model
from mme.cli.tarball import collect, write_tarball
from mme.errors import ArtifactRefused, LoadFailed


@pytest.fixture
def model(tmp_path):
    directory = tmp_path / "model"
    (directory / "sub").mkdir(parents=True)
    (directory / "b.txt").write_bytes(b"b" * 10_000)
    (directory / "a.txt").write_text("a")
    (directory / "sub" / "ünï.txt").write_text("c")
    return directory


def test_the_same_files_make_the_same_bytes(tmp_path, model):
    write_tarball(collect(model), tmp_path / "one.tar.gz")
    os.utime(model / "a.txt", (1, 1))
    (model / "a.txt").chmod(0o600)
    write_tarball(dict(reversed(collect(model).items())), tmp_path / "two.tar.gz")
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()


def test_members_are_sorted_and_carry_neither_time_nor_owner(tmp_path, model):
    write_tarball(collect(model), tmp_path / "out.tar.gz")
    with tarfile.open(tmp_path / "out.tar.gz") as archive:
        members = archive.getmembers()
        content = archive.extractfile("b.txt").read()
    assert [member.name for member in members] == ["a.txt", "b.txt", "sub", "sub/ünï.txt"]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
    assert [oct(member.mode) for member in members] == ["0o644", "0o644", "0o755", "0o644"]
    assert content == b"b" * 10_000


def test_links_and_devices_are_refused_by_name(model):
    (model / "link").symlink_to("a.txt")
    with pytest.raises(ArtifactRefused, match=r"model/link is a link"):
        collect(model)
    (model / "link").unlink()
    (model / "linked-directory").symlink_to("sub")
    with pytest.raises(ArtifactRefused, match=r"linked-directory is a link"):
        collect(model)
    (model / "linked-directory").unlink()
    os.mkfifo(model / "pipe")
    with pytest.raises(ArtifactRefused, match=r"model/pipe is neither"):
        collect(model)


@pytest.mark.parametrize("name", ["new\nline", "bell\a", os.fsdecode(b"\xff")])
def test_names_that_servers_refuse_are_refused(model, name):
    (model / name).write_text("x")
    with pytest.raises(ArtifactRefused, match="refuse in a name"):
        collect(model)


def test_a_directory_without_a_file_is_refused(tmp_path):
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    with pytest.raises(ArtifactRefused, match="holds no file"):
        collect(tmp_path / "empty")


def test_a_failed_write_leaves_nothing_and_keeps_what_was_there(tmp_path, model):
    out = tmp_path / "out"
    out.mkdir()
    target = out / "model.tar.gz"
    target.write_text("old")
    members = {**collect(model), "z": model / "vanished"}
    with pytest.raises(FileNotFoundError):
        write_tarball(members, target)
    assert (list(out.iterdir()), target.read_text()) == ([target], "old")


def test_the_tarball_can_be_read_by_others_as_the_umask_says(tmp_path, model):
    before = os.umask(0o027)
    try:
        write_tarball(collect(model), tmp_path / "out.tar.gz")
    finally:
        os.umask(before)
    assert oct((tmp_path / "out.tar.gz").stat().st_mode & 0o777) == "0o640"


def test_a_tarball_is_never_written_into_what_it_packs(model):
    with pytest.raises(ArtifactRefused, match="would lie inside"):
        pack_model(model, model / "model.tar.gz")
    with pytest.raises(ArtifactRefused, match="would lie inside"):
        pack_model(model / "a.txt", model / "a.txt")


def test_a_link_given_as_the_model_is_refused(tmp_path, model):
    (tmp_path / "link").symlink_to(model)
    with pytest.raises(ArtifactRefused, match="but a link"):
        pack_model(tmp_path / "link", tmp_path / "out.tar.gz")


def test_what_no_loader_takes_is_refused_with_what_was_found(tmp_path, model):
    with pytest.raises(LoadFailed, match=r"a\.txt"):
        pack_model(model, tmp_path / "out.tar.gz")
    assert not (tmp_path / "out.tar.gz").exists()

"""`mme pack`: the same bytes every time, nothing that a server refuses, nothing half written."""

from __future__ import annotations

import os
import tarfile
from fnmatch import fnmatch

import pytest

from loaders.find import ROWS
from mme.cli.pack import CONVENTIONAL_NAMES, pack_model
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
    with pytest.raises(ArtifactRefused, match="is a link"):
        pack_model(tmp_path / "link", tmp_path / "out.tar.gz")


def test_what_no_loader_takes_is_refused_with_what_was_found(tmp_path, model):
    with pytest.raises(LoadFailed, match=r"a\.txt"):
        pack_model(model, tmp_path / "out.tar.gz")
    assert not (tmp_path / "out.tar.gz").exists()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.tar.gz"


@pytest.fixture
def booster(tmp_path):
    """A file that is taken for xgboost by its name alone."""
    path = tmp_path / "model.ubj"
    path.write_bytes(b"\0garbage")
    return path


@pytest.fixture
def script(tmp_path):
    """A folder with a script, what it imports and what running it left there."""
    folder = tmp_path / "source"
    (folder / "lib" / "__pycache__").mkdir(parents=True)
    for name in ("inference.py", "lib/rows.py", "lib/__pycache__/rows.pyc"):
        (folder / name).write_text(f"# {name}")
    return folder


def members(tarball):
    with tarfile.open(tarball) as archive:
        files = [member for member in archive.getmembers() if member.isfile()]
        return {member.name: archive.extractfile(member).read().decode() for member in files}


def test_every_framework_has_a_name_that_its_loader_takes():
    taken = {row.framework: row.names for row in ROWS}
    assert CONVENTIONAL_NAMES.keys() == taken.keys()
    for framework, name in CONVENTIONAL_NAMES.items():
        assert any(fnmatch(name, pattern) for pattern in taken[framework]), name
        others = [row for row in ROWS if any(fnmatch(name, pattern) for pattern in row.names)]
        assert [row.framework for row in others] == [framework]


def test_a_script_becomes_what_servers_run_whatever_it_was_called(tmp_path, booster, out):
    (tmp_path / "serve.py").write_text("# serve")
    (tmp_path / "pins.txt").write_text("probe==1.0\n")
    took_for = pack_model(
        booster, out, script=tmp_path / "serve.py", requirements=tmp_path / "pins.txt"
    )
    assert took_for == "script (code/inference.py: script)"
    packed = members(out)
    assert packed.keys() == {"model.ubj", "code/inference.py", "code/requirements.txt"}
    assert packed["code/inference.py"] == "# serve"
    assert packed["code/requirements.txt"] == "probe==1.0\n"


def test_a_model_with_requirements_alone_stays_its_frameworks(tmp_path, booster, out):
    (tmp_path / "pins.txt").write_text("probe==1.0\n")
    took_for = pack_model(booster, out, requirements=tmp_path / "pins.txt")
    assert took_for == "xgboost (model.ubj: by its name)"


def test_a_folder_becomes_the_code_but_for_what_running_it_left(booster, script, out):
    pack_model(booster, out, script=script)
    assert members(out).keys() == {"model.ubj", "code/inference.py", "code/lib/rows.py"}


def test_a_folder_without_the_script_that_servers_run_is_refused(booster, script, out):
    (script / "inference.py").rename(script / "serve.py")
    with pytest.raises(ArtifactRefused, match=r"source holds no inference\.py"):
        pack_model(booster, out, script=script)


def test_what_the_model_holds_already_is_never_replaced(tmp_path, booster, script, out):
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "code" / "inference.py").write_text("# its own")
    with pytest.raises(ArtifactRefused, match=r"model holds code/inference\.py already"):
        pack_model(tmp_path / "model", out, script=script)
    (script / "requirements.txt").write_text("probe")
    with pytest.raises(ArtifactRefused, match=r"source holds a requirements\.txt of its own"):
        pack_model(booster, out, script=script, requirements=script / "requirements.txt")
    assert not out.exists()


def test_requirements_that_refer_to_what_is_not_packed_are_refused(tmp_path, booster, script, out):
    (tmp_path / "pins.txt").write_text("-c constraints.txt\nprobe\n")
    with pytest.raises(ArtifactRefused, match=r"constraints\.txt is not a file of the archive"):
        pack_model(booster, out, requirements=tmp_path / "pins.txt")
    (tmp_path / "pins.txt").rename(script / "requirements.txt")
    (script / "constraints.txt").write_text("probe==1.0\n")
    pack_model(booster, out, script=script)
    assert {"code/requirements.txt", "code/constraints.txt"} < members(out).keys()


def test_a_framework_names_the_model_of_a_script_too(tmp_path, booster, script, out):
    booster.rename(tmp_path / "weights.bin")
    assert pack_model(tmp_path / "weights.bin", out, script=script).startswith("script ")
    assert "weights.bin" in members(out)
    pack_model(tmp_path / "weights.bin", out, "xgboost", script=script)
    assert "xgboost-model" in members(out)
    (tmp_path / "weights.bin").rename(tmp_path / "model.pt")
    pack_model(tmp_path / "model.pt", out, "xgboost", script=script)
    assert "xgboost-model" in members(out)


def test_neither_link_nor_device_gets_in_as_code(tmp_path, booster, script, out):
    (tmp_path / "link.py").symlink_to(script / "inference.py")
    with pytest.raises(ArtifactRefused, match=r"link\.py is a link"):
        pack_model(booster, out, script=tmp_path / "link.py")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactRefused, match="pipe is neither"):
        pack_model(booster, out, requirements=tmp_path / "pipe")


def test_a_tarball_is_never_written_into_the_folder_of_its_script(booster, script):
    with pytest.raises(ArtifactRefused, match="would lie inside"):
        pack_model(booster, script / "out.tar.gz", script=script)

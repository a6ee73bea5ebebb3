"""What somebody has on disk, also of what only its processes hold."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mme.workers.disk_use import DiskUse

MIB = 1024**2
HOLDER = """
import ctypes, os, signal, sys
names = sys.argv[1:]
opened = [os.open(name, os.O_RDWR | os.O_CREAT) for name in names]
for number in opened:
    os.write(number, bytes(1 << 20))
    os.fsync(number)
mapped = ctypes.CDLL(None).mmap
mapped.argtypes, mapped.restype = [ctypes.c_void_p, *[ctypes.c_long] * 5], ctypes.c_void_p
assert mapped(None, 1 << 20, 3, 1, opened[1], 0)
os.close(opened[1])
for name in names:
    os.unlink(name)
print("holds", flush=True)
signal.pause()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[int]:
    """The group of a process that holds two deleted files of 1 MiB: open, and mapped alone."""
    names = [str(tmp_path / name) for name in ("open", "mapped")]
    command = [sys.executable, "-c", HOLDER, *names]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"holds\n"
        yield process.pid
        process.kill()


def use_of(directory: Path, limit_bytes: int = 8 * MIB, limit_files: int = 100) -> DiskUse:
    return DiskUse(directory, limit_bytes=limit_bytes, limit_files=limit_files)


def test_deleted_files_count_while_they_are_open_or_mapped(tmp_path: Path, holder: int) -> None:
    found = use_of(tmp_path).look(holder)
    assert 2 * MIB <= found.bytes <= 2 * MIB + 64 * 1024
    assert use_of(tmp_path).look(-1).bytes == 0
    assert use_of(tmp_path, limit_bytes=MIB).look(holder).excess


def test_too_much_is_told_in_bytes_and_in_files_under_whatever_names(tmp_path: Path) -> None:
    (tmp_path / "first").write_bytes(bytes(MIB))
    for number in range(9):
        (tmp_path / f"link{number}").hardlink_to(tmp_path / "first")
    use = use_of(tmp_path, limit_bytes=2 * MIB, limit_files=10)
    assert use.look(-1).excess == ""
    (tmp_path / "link").hardlink_to(tmp_path / "first")
    assert use.look(-1).excess == "it had more than 10 files"
    (tmp_path / "link").unlink()
    (tmp_path / "link8").unlink()
    (tmp_path / "more").write_bytes(bytes(MIB + 4096))
    assert use.look(-1).excess == f"it had more than {2 * MIB} bytes on disk"


def test_nothing_is_had_in_a_directory_that_has_gone(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    use = use_of(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert use.look(-1).bytes == 0


AS_NOBODY = """
import ctypes, os, signal, tempfile
from pathlib import Path
from mme.workers.disk_use import DiskUse
if os.geteuid() == 0:
    os.setgroups([])
    os.setresuid(65534, 65534, 65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
place = tempfile.TemporaryDirectory()
use = DiskUse(Path(place.name), limit_bytes=1 << 20, limit_files=100)
group = os.getpgid(0)
print(use.look(group).excess)
ended = os.fork()
if ended == 0:
    os._exit(0)
os.waitid(os.P_PID, ended, os.WEXITED | os.WNOWAIT)  # whose files nobody may see, either
print(use.look(group).excess)
reading, writing = os.pipe()
hiding = os.fork()
if hiding == 0:
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    os.write(writing, b"x")
    signal.pause()
os.read(reading, 1)
print(use.look(group).excess)
os.kill(hiding, signal.SIGKILL)
"""


def test_who_hides_what_it_holds_has_too_much_and_who_has_ended_hides_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY],
        capture_output=True, text=True, check=False, start_new_session=True, timeout=20,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("\n\nit hid which files it holds\n", "")

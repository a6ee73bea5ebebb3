"""The harness finds what there is to be found, and what it begins with is sound."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.fuzz import fuzzing
from tests.fuzz.fuzzing import Found, corpus_of, fuzz
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_what_once_failed_or_is_sound_goes_through(name):
    known = corpus_of(name)
    assert known
    for data in known:
        TARGETS[name](data)


def test_bytes_that_a_target_does_not_stand_are_found_and_told():
    def check(data):
        if b"\xff" in data:
            raise ValueError("no")

    with pytest.raises(Found) as found:
        fuzz(check, [b"sound"], seconds=60, seed=1)
    assert b"\xff" in found.value.args[0]
    assert isinstance(found.value.__cause__, ValueError)


def test_a_target_that_hangs_is_found(monkeypatch):
    monkeypatch.setattr(fuzzing, "HUNG_SECONDS", 1)
    with pytest.raises(Found):
        fuzz(lambda _: time.sleep(60), [b""], seconds=60, seed=1)


def past_six_doors(data):
    if data[:1] == b"\0":
        if data[1:2] == b"-":
            if data[2:3] == b"/":
                if data[3:4] == b"{":
                    if data[4:5] == b",":
                        if data[5:6] == b":":
                            raise ValueError("past all of them")
                        return
                    return
                return
            return
        return


def test_what_reaches_a_new_line_is_what_the_next_ones_are_made_of(monkeypatch):
    monkeypatch.setattr(fuzzing, "_OURS", (__file__,))
    with pytest.raises(Found):
        fuzz(past_six_doors, [b""], seconds=60, seed=1)  # a second; years, if it were by chance


def test_a_run_by_hand_says_what_it_did(tmp_path):
    command = [sys.executable, "-m", "tests.fuzz", "wire", "--seconds", "0.2", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines
    assert all(line.startswith("wire: ") and "no finding" in line for line in lines)
    (tmp_path / "input").write_bytes(b"m")
    again = [*command[:4], "--input", str(tmp_path / "input")]
    assert subprocess.run(again, check=False).returncode == 0

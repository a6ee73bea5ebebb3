"""Short runs of the comparison with what needs no installation, and of the cold scenarios."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from load_tests.peers import in_process
from load_tests.peers.base import Peer, PeerModel, Start
from load_tests.peers.environments import PeerUnavailable, obtain
from load_tests.peers.model_code import Resident
from load_tests.peers.running import running

ROOT = Path(__file__).parents[2]
OURS, PEER, NULL = "mme", "aiohttp, in process", "null server"


def run(scenario, results, *flags):
    command = [sys.executable, "-m", "load_tests", scenario, f"--results={results}", *flags]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stderr == ""
    [path] = results.glob(f"{scenario}-*.json")
    return done, json.loads(path.read_text())


@pytest.mark.timeout(120)
def test_a_short_comparison_has_every_server_under_the_same_loads_with_every_answer_right(tmp_path):
    flags = ("--frameworks=xgboost", "--peers=in-process", "--models=0", "--connections=2")
    flags += ("--seconds=0.2", "--rounds=1")
    done, result = run("peers", tmp_path, *flags)
    assert done.returncode == 0, done.stdout
    assert "Where we lose" in done.stdout
    assert result["failures"] == result["left_out"] == {}
    rows = {(each["subject"], each["mode"]): each["outcome"] for each in result["rows"]}
    rows = {key: outcome for key, outcome in rows.items() if key[1] != "warming up"}
    assert set(rows) == {(name, "xgboost, 2 connections") for name in (OURS, PEER, NULL)}
    assert all(outcome["checked"] > 0 for outcome in rows.values())
    assert all(size > 0 for held in result["memory_bytes"].values() for [size] in held.values())
    assert {goal["word"] for goal in result["goals"]} == {"not measured"}
    [tables] = tmp_path.glob("*.md")
    assert f"| {PEER} | " in tables.read_text()


@pytest.mark.timeout(120)
def test_a_mix_with_room_for_half_loads_again_and_answers_rightly(tmp_path):
    flags = ("--models=48", "--rounds=1", "--seconds=0.5", "--connections=1")
    done, result = run("zipf", tmp_path, *flags)
    assert done.returncode == 0, done.stdout
    words = {goal["goal"]: goal["word"] for goal in result["goals"]}
    assert len(words) == 2  # nothing beside anyone
    assert set(words.values()) <= {"met", "missed"}
    [note] = [note for note in result["notes"] if note.startswith("Zipf, room for half")]
    assert int(note.split(" loaded ")[1].split()[0]) > 0


def figures(result):
    return {(each["subject"], each["figure"]): each["value"] for each in result["findings"]}


@pytest.mark.timeout(120)
def test_a_cold_answer_stands_beside_its_parts_and_a_second_one_comes_from_disk(tmp_path):
    _done, result = run("cold", tmp_path, "--models=3", "--boosters=1", "--large-models=0")
    found = figures(result)
    parts = [found["xgboost", f"{name} alone, ms"] for name in ("get", "unpack", "load", "predict")]
    assert min(parts) > 0
    assert found["xgboost", "first answer from S3, median ms"] > 0
    assert all(": " in kind and not kind.endswith("cold") for kind in result["failures"])
    targets = {f"xgboost: {each['figure']}" for each in result["findings"] if each["target"]}
    assert set(result["failures"]) <= targets  # nothing to judge here


@pytest.mark.timeout(120)
def test_a_herd_is_answered_and_stands_beside_the_fetch_floor(tmp_path):
    done, result = run("herd", tmp_path, "--models=12", "--boosters=1", "--rounds=1")
    assert done.returncode == 0, done.stdout
    found = figures(result)
    assert found["herd", "models a second, all answered"] > 0
    assert found["herd", "models a second, fetch floor"] > 0


@pytest.mark.timeout(120)
def test_growth_is_measured_with_all_models_resident(tmp_path):
    flags = ("--models=12", "--few=3", "--rounds=1", "--seconds=0.2", "--connections=2")
    _done, result = run("growth", tmp_path, "--boosters=1", *flags)
    assert figures(result)["growth", "resident of 12"] == 12
    assert set(result["failures"]) <= {"growth: % lost with many resident"}


def test_a_peer_that_does_not_start_is_told_in_its_own_words_and_leaves_no_process(tmp_path):
    def prepare(site):
        code = "print('no such option'); raise SystemExit(3)"
        return Start(command=[site.python, "-c", code], port=site.port, ready_path="/")

    peer = replace(in_process.ONE, prepare=prepare)
    before = psutil.Process().children()  # what serves the whole session
    with pytest.raises(PeerUnavailable, match="no such option"):  # noqa: SIM117 - what raises
        with running(peer, Path(sys.executable), [], 1, tmp_path / "site"):
            pass
    assert psutil.Process().children() == before


def test_a_peer_whose_program_is_missing_is_not_even_installed(tmp_path):
    peer = Peer(
        name="far", requirements=("nothing",), prepare=None, question=None, needs="no-such-program"
    )
    with pytest.raises(PeerUnavailable, match="needs no-such-program"):
        obtain(peer, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_peer_without_requirements_runs_in_our_own_environment(tmp_path):
    assert obtain(in_process.ONE, tmp_path) == Path(sys.executable)


def test_a_peer_with_less_room_lets_the_least_recently_used_leave(tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        "load_tests.peers.model_code.load", lambda path: loaded.append(path.stem) or path.stem
    )
    for name in "abc":
        (tmp_path / f"{name}.ubj").touch()
    resident = Resident(tmp_path, 2)
    assert loaded == ["a", "b"]
    assert [resident.get(name) for name in "acab"] == ["a", "c", "a", "b"]
    assert loaded == ["a", "b", "c", "b"]


def test_a_peer_gets_a_model_s_file_under_the_model_s_name(tmp_path):
    file = tmp_path / "anything.pt"
    file.touch()
    model = PeerModel(name="m", framework="torch", path=file, row=(1.0,), expected=(2.0,))
    assert model.csv == "1.0"
    seen = []

    def prepare(site):
        seen.extend(path.name for path in site.link_models().iterdir())
        return Start(command=["false"], port=site.port, ready_path="/")

    peer = replace(in_process.ONE, prepare=prepare)
    with pytest.raises(PeerUnavailable):  # noqa: SIM117 - what raises
        with running(peer, Path(sys.executable), [model], 1, tmp_path / "site"):
            pass
    assert seen == ["m.pt"]

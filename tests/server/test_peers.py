"""Short runs of the comparison with what needs no installation, and of the cold scenarios."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from load_tests.__main__ import main
from load_tests.measure import GeneratorFailed
from load_tests.peers import in_process
from load_tests.peers.base import ModelSet, Peer, PeerModel, Start
from load_tests.peers.environments import PeerUnavailable, installed_versions, obtain
from load_tests.peers.first_answers import time_first_answers
from load_tests.peers.model_code import Resident
from load_tests.peers.report import PeersReport
from load_tests.peers.running import running
from load_tests.plan import Question
from load_tests.tenants import TrainingFailed

ROOT = Path(__file__).parents[2]
OURS, PEER, NULL = "mme", "aiohttp, in process", "null server"
CEILING = "generator's ceiling"


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
    flags += ("--seconds=0.2", "--rounds=2", "--first-models=2")
    flags += ("--cold-models=0", "--herd-models=0", "--growth-models=0")
    done, result = run("peers", tmp_path, *flags)
    assert done.returncode == 0, done.stdout
    assert "Where we lose" in done.stdout
    assert result["failures"] == result["left_out"] == {}
    assert result["versions_of_peers"] == {PEER: {"python": platform.python_version()}}
    rows = {(each["subject"], each["mode"]): each["outcome"] for each in result["rows"]}
    rows = {key: outcome for key, outcome in rows.items() if key[1] != "warming up"}
    assert set(rows) == {(name, "xgboost, 2 connections") for name in (OURS, PEER, NULL, CEILING)}
    assert all(outcome["checked"] > 0 for outcome in rows.values())
    turns = [[row["subject"] for row in result["rows"] if row["round"] == n] for n in (1, 2)]
    assert turns == [[CEILING, NULL, OURS, PEER], [PEER, OURS, NULL, CEILING]]
    held = [sizes for found in result["memory_bytes"].values() for sizes in found.values()]
    assert all(min(sizes) > 0 for sizes in held)
    first = result["first_seconds"]["xgboost"]
    assert set(first) == {OURS, PEER}
    assert all(len(taken) == 2 and min(taken) > 0 for taken in first.values())
    assert {goal["word"] for goal in result["goals"]} == {"not measured"}
    [tables] = tmp_path.glob("*.md")
    assert f"| {PEER} | " in tables.read_text()


@pytest.mark.timeout(120)
def test_one_run_tells_of_the_goals_that_need_no_peer_too(tmp_path):
    flags = ("--frameworks=xgboost", "--peers=compiled", "--models=0", "--connections=2")
    flags += ("--seconds=0.2", "--rounds=1", "--first-models=0")
    flags += ("--cold-models=2", "--large-models=0", "--herd-models=4", "--growth-models=12")
    done, result = run("peers", tmp_path, *flags)
    assert done.returncode == 0, done.stdout  # a goal that is missed fails nothing here
    told = {goal["goal"]: goal["measured"] for goal in result["goals"]}
    assert set(told) == {
        "xgboost: times the sum of its parts",
        "xgboost: from disk after an eviction, median ms",
        "xgboost: from disk after a restart, median ms",
        f"herd: cores idle of {os.cpu_count()}",
        "growth: % lost with many resident",
    }
    assert figures(result["alone"])["herd", "models a second, all answered"] > 0
    assert result["alone"]["raw"]["xgboost: from S3, seconds"]


FAILING_HERD = """
import sys
from load_tests import __main__, herd
from load_tests.findings import Finding
from load_tests.server_process import ServerFailed

def fail(options, report):
    report.add(Finding(subject="herd", figure="begun", value=1.0))
    raise ServerFailed("it ended with code -9")

herd.run = fail
sys.exit(__main__.main())
"""


@pytest.mark.timeout(120)
def test_where_ours_fails_alone_the_run_fails_and_what_else_was_measured_is_told(tmp_path):
    flags = ("--frameworks=xgboost", "--peers=compiled", "--models=0", "--connections=2")
    flags += ("--seconds=0.1", "--rounds=1", "--first-models=0")
    flags += ("--cold-models=0", "--herd-models=4", "--growth-models=12")
    command = [sys.executable, "-c", FAILING_HERD, "peers", f"--results={tmp_path}", *flags]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "Failed:\n  herd: it ended with code -9" in done.stdout
    [path] = tmp_path.glob("*.json")
    result = json.loads(path.read_text())
    assert result["failures"] == {"herd failed": 1}
    assert result["rows"]
    found = figures(result["alone"])
    assert found["herd", "begun"] == 1
    assert found["growth", "resident of 12"] == 12  # which comes after


def test_a_run_of_which_nothing_succeeded_is_told_and_written(tmp_path):
    console = Console(record=True, quiet=True)
    report = PeersReport("peers", datetime.now(UTC), console)
    for part, error in (("warm models", TrainingFailed("no memory")), ("cold", OSError("gone"))):
        with report.going_on(part):
            raise error
    report.print_tables()
    assert report.failures() == {"warm models failed": 1, "cold failed": 1}
    told = json.loads(report.write(tmp_path, {}).read_text())
    assert told["lost"] == {"warm models": "no memory", "cold": "gone"}


def test_a_missing_rclone_is_told_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))  # nothing would run with it
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "argv", ["load_tests", "peers", f"--results={tmp_path}"])
    assert main() == 1
    assert capsys.readouterr().out.startswith("peers failed: rclone is not installed")
    assert list(tmp_path.iterdir()) == []


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
    _done, result = run("herd", tmp_path, "--models=12", "--boosters=1", "--rounds=1")
    cores = os.cpu_count()
    idle = "herd", f"cores idle of {cores}"
    assert set(result["failures"]) <= {": ".join(idle)}  # a machine of many has no work for all
    found = figures(result)
    busy = [value for (_, figure), value in found.items() if figure.startswith("cores busy")]
    assert len(busy) == 3
    assert found[idle] == pytest.approx(max(0, cores - sum(busy)))
    assert found["herd", "models a second, all answered"] > 0
    assert found["herd", "models a second, fetch floor"] > 0


@pytest.mark.timeout(120)
def test_growth_is_measured_with_all_models_resident(tmp_path):
    flags = ("--models=12", "--few=3", "--rounds=1", "--seconds=0.2", "--connections=2")
    _done, result = run("growth", tmp_path, "--boosters=1", *flags)
    assert figures(result)["growth", "resident of 12"] == 12
    assert set(result["failures"]) <= {"growth: % lost with many resident"}


def chosen(directory, *models):
    return ModelSet(models=models, tarballs=directory, loaded=len(models))


def test_a_peer_that_does_not_start_is_told_in_its_own_words_and_leaves_no_process(tmp_path):
    def prepare(site):
        code = "print('no such option'); raise SystemExit(3)"
        return Start(command=[site.python, "-c", code], port=site.port, ready_path="/")

    peer = replace(in_process.ONE, prepare=prepare)
    before = psutil.Process().children()  # what serves the whole session
    with pytest.raises(PeerUnavailable, match="no such option"):  # noqa: SIM117 - what raises
        with running(peer, Path(sys.executable), chosen(tmp_path), 1, tmp_path / "site"):
            pass
    assert psutil.Process().children() == before


ASKED_TO_LOAD = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    loaded = set()

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        self.rfile.read(length)
        what, name = self.path.strip("/").split("/")
        print(what, name, flush=True)
        if what == "load":
            self.loaded.add(name)
        self.send_response(200 if name in self.loaded else 404)
        self.end_headers()
        self.wfile.write(b"2.0")

    def log_message(self, *_):
        pass

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_a_peer_that_is_asked_to_load_loads_each_cold_model_within_its_first_answer(tmp_path):
    def prepare(site):
        (site.directory / "server.py").write_text(ASKED_TO_LOAD)
        command = [site.python, site.directory / "server.py", str(site.port)]
        loads = {model.name: ("POST", f"/load/{model.name}") for model in site.models}
        return Start(command=command, port=site.port, ready_path="/", loads=loads)

    names = ("a", "b", "c")
    models = [
        PeerModel(name=name, framework="torch", path=tmp_path, row=(1.0,), expected=(2.0,))
        for name in names
    ]
    asked = [Question(target="", body="1", expected=(2.0,), path=f"/ask/{name}") for name in names]
    one_loaded = replace(chosen(tmp_path, *models), loaded=1)
    peer, place = replace(in_process.ONE, prepare=prepare), tmp_path / "site"
    with running(peer, Path(sys.executable), one_loaded, 3, place) as server:
        taken = time_first_answers(server, names, asked)
        wrong = replace(asked[0], expected=(3.0,))
        with pytest.raises(GeneratorFailed, match=r"answered b'2\.0'"):
            time_first_answers(server, names[:1], [wrong])
        unknown = replace(asked[0], path="/ask/none")
        with pytest.raises(GeneratorFailed, match="answered 404"):
            time_first_answers(server, names[:1], [unknown])
    assert len(taken) == 2
    told = (place / "server.log").read_text().splitlines()
    assert told[:7] == ["load a", "ask a", "ask a", "load b", "ask b", "load c", "ask c"]


def test_a_peer_whose_program_is_missing_is_not_even_installed(tmp_path):
    peer = Peer(
        name="far", requirements=("nothing",), prepare=None, question=None, needs="no-such-program"
    )
    with pytest.raises(PeerUnavailable, match="needs no-such-program"):
        obtain(peer, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_peer_without_requirements_runs_in_our_own_environment(tmp_path):
    assert obtain(in_process.ONE, tmp_path) == Path(sys.executable)


def test_versions_are_those_of_the_requirements_in_the_peers_own_environment():
    peer = replace(in_process.ONE, requirements=("pytest>=9,<10", "psutil", "rich==0"))
    found = installed_versions(peer, Path(sys.executable))
    assert found == {
        "python": platform.python_version(),
        "pytest": pytest.__version__,
        "psutil": psutil.__version__,
        "rich": version("rich"),
    }
    lacking = replace(in_process.ONE, requirements=("no-such-package[all]>=1",))
    with pytest.raises(PeerUnavailable, match="no-such-package"):
        installed_versions(lacking, Path(sys.executable))


def test_a_peer_with_less_room_lets_the_least_recently_used_leave(tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        "load_tests.peers.model_code.load", lambda path: loaded.append(path.stem) or path.stem
    )
    for name in "abc":
        (tmp_path / f"{name}.ubj").touch()
    assert Resident(tmp_path, 2, 1)
    assert loaded == ["a"]
    loaded.clear()
    resident = Resident(tmp_path, 2, 3)
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
        with running(peer, Path(sys.executable), chosen(tmp_path, model), 1, tmp_path / "site"):
            pass
    assert seen == ["m.pt"]

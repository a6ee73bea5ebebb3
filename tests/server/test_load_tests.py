"""The benchmark itself: what it counts, what it does not overlook, and a short run of it all."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tests.alarm import Alarm
from load_tests.answers import Checker
from load_tests.client import Generator
from load_tests.floor_parts import Ask
from load_tests.measure import GeneratorFailed
from load_tests.messages import MalformedMessage, MessageParser, write_request
from load_tests.pace import draw_arrivals
from load_tests.percentiles import percentile, summarise
from load_tests.plain_work import work, working
from load_tests.plan import Plan, Question
from load_tests.sdk_requests import sign_requests, write_keys
from load_tests.wrk import measure_by_wrk
from tests.engines import drop
from tests.models import CSV, booster
from tests.servers import serving

ROOT = Path(__file__).parents[2]
RIGHT = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n0.5"
QUESTION = Question(target="a.tar.gz", body="1,2", expected=(0.5,))


@given(st.lists(st.binary(max_size=40), max_size=5), st.data())
def test_messages_are_the_same_however_their_bytes_are_split(bodies, data):
    sent = b"".join(write_request("h", "/p", {"X-A": "b"}, body) for body in bodies)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    parser = MessageParser()
    found = [message for piece in pieces for message in parser.feed(piece)]
    assert found == [(b"POST /p HTTP/1.1", body) for body in bodies]


def test_the_length_is_found_in_any_case_and_only_in_the_head():
    body = b"\r\ncontent-length: 9\r\n"
    sent = b"HTTP/1.1 200 OK\r\ncontent-LENGTH:  %d \r\nA: b\r\n\r\n" % len(body) + body
    parser = MessageParser()
    assert parser.feed(sent[:-1]) == []
    assert parser.feed(sent[-1:]) == [(b"HTTP/1.1 200 OK", body)]


@pytest.mark.parametrize(
    "garbage",
    [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"\r\n\r\n", b"x" * 70_000],
)
def test_what_is_no_message_with_a_length_is_refused(garbage):
    with pytest.raises(MalformedMessage):
        MessageParser().feed(garbage)


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(1, 0.5, 1), (100, 0.5, 50), (100, 0.99, 99), (1000, 0.999, 999), (3, 0.5, 2), (10, 0.999, 10),
     (100, 0.07, 7)],
)  # fmt: skip
def test_a_percentile_is_the_nearest_rank(count, share, expected):
    assert percentile(range(1, count + 1), share) == expected


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1))
def test_a_percentile_was_measured_and_that_share_does_not_exceed_it(values, share):
    found = percentile(sorted(values), share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6


def test_nothing_measured_makes_no_figures():
    assert summarise([]) == {}
    assert summarise([2.0, 1.0])["p50_seconds"] == 1.0


def test_arrivals_rise_keep_to_their_rate_and_repeat():
    arrivals = draw_arrivals(1000, 50.0, 60.0, seed=1)
    assert list(arrivals) == sorted(arrivals)
    assert arrivals[0] >= 50.0
    assert arrivals[-1] < 60.0
    assert 9_600 < len(arrivals) < 10_400
    assert arrivals == draw_arrivals(1000, 50.0, 60.0, seed=1) != draw_arrivals(1000, 50.0, 60.0, 2)


async def test_an_alarm_rings_when_it_is_set_to_and_not_before():
    rung = asyncio.Event()
    alarm = Alarm(rung.set)
    moment = time.monotonic() + 0.05
    alarm.set(moment)
    await rung.wait()
    assert time.monotonic() >= moment
    rung.clear()
    alarm.set(moment)  # which has passed
    await rung.wait()
    alarm.close()


@pytest.mark.parametrize("body", [b"0.5", b"0.50000001\n", b" 5e-1 "])
def test_an_answer_within_a_millionth_is_right(body):
    assert Checker([0.5]).is_right(body)


@pytest.mark.parametrize("body", [b"0.500002", b"0.5,0.5", b"", b"nan", b"[0.5]", b"\xff"])
def test_any_other_answer_is_wrong_however_often_it_comes(body):
    checker = Checker([0.5])
    assert not checker.is_right(body)
    assert not checker.is_right(body)


def test_an_answer_of_several_numbers_is_compared_in_order():
    assert Checker([1.0, -2.0]).is_right(b"1.0,-2.0")
    assert not Checker([1.0, -2.0]).is_right(b"-2.0,1.0")


@asynccontextmanager
async def answering(answer):
    """A real server whose every request is answered by `await answer(writer)`; yields a plan."""

    serving = set()

    async def serve(reader, writer):
        serving.add(asyncio.current_task())
        parser = MessageParser()
        try:
            while data := await reader.read(65536):
                for _message in parser.feed(data):
                    await answer(writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Plan(
            port=server.sockets[0].getsockname()[1],
            server_pid=os.getpid(),
            path="/",
            questions=(QUESTION,),
            connections=2,
            seconds=0.3,
            warm_up_seconds=0,
            drain_seconds=5,
        )
        if serving:
            await asyncio.wait(serving)  # each ends with its connection, which the generator ended


def saying(*answers):
    said = iter(answers)

    async def answer(writer):
        writer.write(next(said, RIGHT))

    return answer


@pytest.mark.parametrize("rate", [None, 200])
async def test_a_server_that_answers_well_gets_right_answers_and_no_errors(rate):
    async with answering(saying()) as plan:
        outcome = await Generator(replace(plan, arrivals_per_second=rate)).run()
    assert outcome.errors == {}
    assert outcome.answered == outcome.checked > 20
    assert 0 < outcome.latency["p50_seconds"] <= outcome.latency["max_seconds"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n0.6", "wrong answer"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", "status 503"),
        (RIGHT + RIGHT, "unasked answer"),
    ],
)
async def test_one_bad_answer_among_good_ones_is_counted_by_its_kind(answer, kind):
    async with answering(saying(RIGHT, RIGHT, answer)) as plan:
        outcome = await Generator(replace(plan, connections=1, arrivals_per_second=100)).run()
    assert outcome.errors == {kind: 1}
    assert outcome.checked > 5


needs_wrk = pytest.mark.skipif(
    shutil.which("wrk") is None, reason="Debian's package wrk is not installed"
)


@needs_wrk
async def test_a_flood_comes_at_its_rate_and_its_right_answers_are_counted():
    async with answering(saying()) as plan:
        told = replace(plan, arrivals_per_second=200, seconds=2)
        outcome = await asyncio.to_thread(measure_by_wrk, told)
    assert outcome.errors == {}
    assert 300 < outcome.answered <= outcome.checked < 500


@needs_wrk
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n0.6", "wrong answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "wrong answer"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", "status 503"),
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 3\r\n\r\n0.5", "another status"),
    ],
)
async def test_one_bad_answer_to_a_flood_is_counted_by_its_kind(answer, kind):
    async with answering(saying(RIGHT, RIGHT, answer)) as plan:
        told = replace(plan, connections=1, arrivals_per_second=100)
        outcome = await asyncio.to_thread(measure_by_wrk, told)
    assert outcome.errors == {kind: 1}
    assert outcome.checked > 5


async def test_a_flood_says_what_it_is_missing(monkeypatch):
    monkeypatch.setenv("PATH", "")
    async with answering(saying()) as plan:
        with pytest.raises(GeneratorFailed, match="wrk, which is not installed"):
            measure_by_wrk(replace(plan, arrivals_per_second=100))


async def test_garbage_ends_its_connection_and_the_others_go_on():
    async with answering(saying(RIGHT, b"garbage\r\n\r\n")) as plan:
        outcome = await Generator(plan).run()
    assert outcome.errors == {"malformed answer": 1, "connection lost": 1}
    assert outcome.checked > 5


async def test_a_server_that_hangs_up_on_everyone_ends_the_run_with_errors():
    async def hang_up(writer):
        writer.close()

    async with answering(hang_up) as plan:
        outcome = await Generator(replace(plan, seconds=60)).run()
    assert outcome.errors == {"connection lost": 2}


@pytest.mark.parametrize("rate", [None, 100])
async def test_what_is_never_answered_is_counted_and_as_slow_as_the_wait_for_it(rate):
    async def say_nothing(writer):
        pass

    async with answering(say_nothing) as plan:
        outcome = await Generator(replace(plan, arrivals_per_second=rate, drain_seconds=0.2)).run()
    assert outcome.answered == 0
    assert outcome.errors["unanswered"] >= 2
    assert outcome.latency["max_seconds"] > 0.3


@pytest.mark.parametrize(("rate", "is_seen"), [(None, False), (200, True)])
async def test_a_stall_is_seen_by_an_open_loop_and_hidden_by_a_closed_one(rate, is_seen):
    waited = []

    async def stall_once(writer):
        if len(waited) == 20:
            await asyncio.sleep(0.3)  # the stall itself, which is what is measured
        waited.append(writer)
        writer.write(RIGHT)

    async with answering(stall_once) as plan:
        outcome = await Generator(
            replace(plan, connections=1, seconds=0.6, arrivals_per_second=rate)
        ).run()
    assert outcome.latency["max_seconds"] > 0.25
    assert (outcome.latency["p90_seconds"] > 0.1) == is_seen


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    target = tmp_path_factory.mktemp("trained")
    command = [sys.executable, "-m", "loaders.samples", str(target)]
    command += ["--tenants", "2", "--frameworks", "xgboost", "--trees", "3"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return target


def run_steady(trained, results, *more):
    command = [sys.executable, "-m", "load_tests", "steady", "--trained", str(trained)]
    command += ["--seconds", "0.3", "--rounds", "1", "--connections", "2", "--shares", "0.3"]
    done = subprocess.run(
        [*command, "--results", str(results), *more],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    found = [json.loads(path.read_text()) for path in results.glob("*.json")]
    return done, found[0] if found else None


def assert_plotted(done, results):
    """A PNG beside the run's file, or, where nothing can draw, a sentence that says so."""
    if find_spec("matplotlib"):
        [path] = results.glob("*.json")
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        assert f"The plot is in {path.with_suffix('.png')}" in done.stdout
    else:
        assert "No plot: matplotlib is not installed" in done.stdout


@pytest.mark.timeout(120)
def test_a_short_run_measures_ours_beside_the_null_server_with_every_answer_right(
    trained, tmp_path
):
    done, result = run_steady(trained, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Triton" in done.stdout
    assert result["failures"] == {}
    rows = {(row["subject"], row["mode"].split(",")[0]): row["outcome"] for row in result["rows"]}
    assert set(rows) == {
        ("mme, xgboost", "warming up"),
        *((name, "closed") for name in ("generator's ceiling", "null server", "mme, xgboost")),
        *((name, "open") for name in ("null server", "mme, xgboost")),
    }
    assert all(outcome["checked"] > 0 for outcome in rows.values())
    assert result["versions"]["mme"]
    assert_plotted(done, tmp_path)
    text = json.dumps(result)
    assert not any(private in text for private in (str(ROOT), str(tmp_path), platform.node()))


@pytest.mark.timeout(120)
def test_a_run_with_wrong_answers_says_so_and_fails(trained, tmp_path):
    false = tmp_path / "false"
    shutil.copytree(trained, false)
    manifest = json.loads((false / "manifest.json").read_text())
    manifest[1]["predictions"][0] += 0.001
    (false / "manifest.json").write_text(json.dumps(manifest))
    done, result = run_steady(false, tmp_path)
    assert done.returncode == 1
    assert result["failures"].keys() == {"wrong answer"}
    assert result["failures"]["wrong answer"] > 0
    told = next(row["outcome"] for row in result["rows"] if row["outcome"]["first_wrong"])
    assert told["first_wrong"].startswith("tenant-02.tar.gz: expected (")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("scenario", "subjects"),
    [
        ("hop", {"sibling, directly", "one hop", "two hops"}),
        ("sdk", {"plain requests", "as boto3, no keys", "as boto3, keys"}),
    ],
)
def test_a_short_run_measures_all_beside_each_other(scenario, subjects, tmp_path):
    command = [sys.executable, "-m", "load_tests", scenario, "--results", str(tmp_path)]
    command += ["--seconds", "0.3", "--rounds", "1", "--connections", "2"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    [result] = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    checked = {row["subject"]: row["outcome"]["checked"] for row in result["rows"]}
    assert checked.keys() == subjects
    assert all(count > 0 for count in checked.values())


def status_of(host: str, head: bytes, body: bytes) -> int:
    """What a request is answered that is written in two pieces."""
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port)), timeout=20) as connection:
        for piece in (head, body):
            connection.sendall(piece)
        response = http.client.HTTPResponse(connection)
        response.begin()
        response.read()
        return response.status


def test_requests_as_boto3_sends_them_pass_a_server_with_keys_only_as_they_were_signed(tmp_path):
    keys = tmp_path / "keys.toml"
    write_keys(keys)
    drop(tmp_path / "models", "acme", booster(1).members)
    with serving(tmp_path, tmp_path / "models", "--access-keys", str(keys)) as served:
        host = served.url.removeprefix("http://")
        headers = {"Content-Type": "text/csv", "X-Amzn-SageMaker-Target-Model": "acme"}
        signed = sign_requests(host, "/endpoints/mme/invocations", headers, CSV)
        assert len({head for head, _ in signed}) == len(signed)
        assert [status_of(host, *signed[number]) for number in (0, 1)] == [200, 200]
        assert status_of(host, signed[2][0], CSV[:-1] + b"0") == 403


@pytest.mark.timeout(120)
def test_a_server_that_does_not_start_fails_the_run_with_its_own_words(trained, tmp_path):
    done, result = run_steady(trained, tmp_path, "--workers=-1")
    assert done.returncode == 1
    assert "workers (flags)" in done.stdout
    assert result is None


@pytest.mark.timeout(120)
def test_a_short_look_at_the_floor_times_every_part_and_checks_what_it_gives(trained, tmp_path):
    command = [sys.executable, "-m", "load_tests", "floor", "--trained", str(trained)]
    done = subprocess.run(
        [*command, "--seconds", "0.05", "--rounds", "1", "--connections", "1",
         "--results", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    [path] = tmp_path.glob("*.json")
    findings = json.loads(path.read_text())["findings"]
    microseconds = {
        (each["subject"], each["figure"].removesuffix(", us")): each["value"]
        for each in findings if each["figure"].endswith(", us")
    }  # fmt: skip
    cold = ("GET over loopback by http.client", "decompress and unpack", "load")
    cold += ("csv to csv, 1 row",)
    parts = [microseconds["xgboost", part] for part in cold]
    assert min(parts) > 0
    assert microseconds["xgboost", "cold, in all"] == pytest.approx(sum(parts))
    assert (
        microseconds["xgboost", "C call, 1 row"] < microseconds["xgboost", "inplace_predict, 1 row"]
    )
    assert microseconds["null server, aiohttp", "1 at once"] > 0
    assert_plotted(done, tmp_path)


def test_a_lone_row_is_timed_on_the_way_that_it_takes_and_several_as_a_table():
    both = Ask(many=np.shape, one=list)
    assert both.bind([0.5, 1.5], 1)() == [0.5, 1.5]
    assert both.bind([0.5, 1.5], 16)() == (16, 2)
    assert Ask(many=np.shape).bind([0.5, 1.5], 1)() == (1, 2)


def test_plain_work_uses_up_what_it_is_told_to():
    before = time.thread_time()
    work(burst_seconds=0.01, bursts_per_second=50, seconds=0.2)
    assert time.thread_time() - before >= 0.1


@pytest.mark.timeout(60)
def test_plain_work_is_done_by_a_process_that_ends_with_its_need():
    with working(cores=0.5, bursts_per_second=50, seconds=60):
        [process] = [
            child
            for child in psutil.Process().children()
            if "load_tests.plain_work" in child.cmdline()
        ]
        before = sum(process.cpu_times()[:2])
        while sum(process.cpu_times()[:2]) < before + 0.3:  # more than its start takes
            time.sleep(0.01)
    assert not process.is_running()


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("scenario", "size"),
    [
        pytest.param("flood", ["--tenants=8"], marks=needs_wrk),
        ("storm", ["--warm=4", "--loads=10"]),
    ],
)
def test_a_short_look_beside_others_compares_with_noise_and_checks_every_answer(
    scenario, size, tmp_path
):
    command = [sys.executable, "-m", "load_tests", scenario, *size, "--boosters=2", "--workers=1"]
    done = subprocess.run(
        [*command, "--seconds=0.5", "--rounds=1", "--results", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    [path] = tmp_path.glob("*.json")
    told = json.loads(path.read_text())
    figures = {each["figure"]: each["value"] for each in told["findings"]}
    assert figures["alone against alone, p99, times"] >= 1
    assert figures["right answers a second beside"] > 0
    assert figures["the others, right answers a second"] > 0
    assert ("beside as much plain work, p99 ms" in figures) == (scenario == "storm")
    assert [
        kind for kind in told["failures"] if "p99" not in kind
    ] == []  # no machine is quiet in CI

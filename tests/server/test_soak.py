"""The soak itself: what it overlooks, what its faults do, and a short run of it all."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from load_tests.plan import Question
from load_tests.soak.book import RIGHT, Book, Injected
from load_tests.soak.callers import Caller, Models, Newest, Overwritten
from load_tests.soak.relay import REFUSING, RESETTING, SILENT, SLOW, relayed
from load_tests.soak.rude import BEHAVIOURS, Door, meet
from load_tests.soak.watch import Sample, slope

ROOT = Path(__file__).parents[2]
QUESTION = Question(target="a.tar.gz", body="1,2", expected=(0.5,))
EXCUSES = {"cold": frozenset({"status 530"})}
FAULT = Injected(name="store gone", since=10.0, until=20.0, excuses=EXCUSES)


@pytest.mark.parametrize(
    ("traffic", "outcome", "began", "ended", "is_excused"),
    [
        ("cold", "status 530", 12.0, 13.0, True),
        ("cold", "status 530", 9.0, 10.5, True),  # it ran into it
        ("cold", "status 530", 19.0, 25.0, True),  # it ran out of it
        ("cold", "status 530", 8.0, 9.0, False),
        ("cold", "status 530", 21.0, 22.0, False),
        ("cold", "status 424", 12.0, 13.0, False),
        ("cold", "wrong answer", 12.0, 13.0, False),
        ("hot", "status 530", 12.0, 13.0, False),
    ],
)
def test_only_what_a_fault_may_do_is_excused_and_only_while_it_is_there(
    traffic, outcome, began, ended, is_excused
):
    book = Book()
    book.enter(traffic, outcome, began, ended, "what was said")
    book.inject(FAULT)
    verdicts = book.judge()
    assert verdicts.expected == ({(traffic, outcome, "store gone"): 1} if is_excused else {})
    assert verdicts.unexpected == ({} if is_excused else {(traffic, outcome): 1})
    assert all(amiss.detail == "what was said" for amiss in verdicts.first_unexpected.values())


@contextlib.contextmanager
def answering(*answers):
    """A server that gives these (status, body) in turn and then the last; yields its port."""

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        said = iter(answers)

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self):
            status, body = next(self.said, answers[-1])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class Counting(threading.Event):
    """Over after so many requests."""

    def __init__(self, requests):
        super().__init__()
        self.left = requests

    def wait(self, timeout=None):
        self.left -= 1
        return self.left < 0


def asked(topic, *answers):
    """What the book says of a caller who was answered so."""
    book = Book()
    with answering(*answers) as port:
        caller = Caller(port, "hot", topic, pause_seconds=0, over=Counting(len(answers)), book=book)
        caller.run()
    verdicts = book.judge()
    return {**verdicts.right, **{outcome: n for (_, outcome), n in verdicts.unexpected.items()}}


def test_a_wrong_answer_a_refusal_and_a_lost_connection_are_each_counted():
    answers = (200, b"0.5"), (200, b"0.6"), (503, b"busy"), (200, b"0.5")
    assert asked(Models([QUESTION]), *answers) == {"hot": 2, "wrong answer": 1, "status 503": 1}
    book = Book()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        Caller(
            nobody.getsockname()[1], "hot", Models([QUESTION]),
            pause_seconds=0, over=Counting(1), book=book,
        ).run()  # fmt: skip
    assert book.judge().unexpected == {("hot", "connection lost"): 1}


class Numbered:
    """As Versions: version n answers n."""

    row = b"1"

    def number_of(self, body):
        return int(body) if body.isdigit() else None


def test_an_older_version_after_a_newer_one_and_a_mixture_are_errors():
    newest = Newest()
    newest.number = 3
    answers = [(200, body) for body in (b"1", b"1", b"3", b"2", b"?", b"4")]
    assert asked(Overwritten("m", Numbered(), newest), *answers) == {
        "hot": 3, "older than the answer before": 1, "mixed answer": 2,
    }  # fmt: skip


def door(port, slack_seconds=10.0):
    return Door(
        port=port, patience_seconds=0.1, slack_seconds=slack_seconds, hot=QUESTION, cold=[QUESTION],
        random=random.Random(0),
    )  # fmt: skip


CUT_OFF = {"says nothing", "a byte a second", "sends too much", "sends garbage", "pipelining"}


@pytest.mark.parametrize("name", sorted(CUT_OFF))
def test_a_server_that_does_nothing_about_a_bad_client_is_found_out(name):
    with socket.create_server(("127.0.0.1", 0)) as mute:  # connections are kept in its backlog
        assert meet(BEHAVIOURS[name][0], door(mute.getsockname()[1], 0.2)) == "kept connected"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sends too much", "told b'HTTP/1.1 200 OK"),
        ("pipelining", "malformed answer"),
        ("reads nothing", "malformed answer"),
    ],
)
def test_a_server_that_answers_a_bad_client_wrongly_is_found_out(name, said):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while connection.recv(1 << 16):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        assert meet(BEHAVIOURS[name][0], door(server.getsockname()[1], 1.0)).startswith(said)
        thread.join()


def test_a_pipeline_with_one_wrong_answer_is_found_out():
    with answering(*[(200, b"0.5")] * 7, (200, b"0.6"), (200, b"0.5")) as port:
        assert meet(BEHAVIOURS["pipelining"][0], door(port)) == "wrong answer"
        assert meet(BEHAVIOURS["pipelining"][0], door(port)) == RIGHT


def test_the_relay_does_what_it_is_told_and_nothing_else():
    with answering((200, b"x" * 300_000)) as port, relayed(port) as relay:

        def got(limit_seconds=10.0):
            connection = http.client.HTTPConnection("127.0.0.1", relay.port, timeout=limit_seconds)
            with contextlib.closing(connection):
                connection.request("GET", "/")
                with connection.getresponse() as answer:
                    return answer.status, len(answer.read())

        assert got() == (200, 300_000)
        relay.fault = REFUSING
        assert got() == (503, 0)
        relay.fault = RESETTING
        with pytest.raises((OSError, http.client.HTTPException)):
            got()
        relay.fault = SILENT
        with pytest.raises(TimeoutError):
            got(0.3)
        for relay.fault in (SLOW, None):
            assert got() == (200, 300_000)


def test_a_slope_is_by_the_hour():
    def sample(at):
        return Sample(
            at=at, server_bytes=0, worker_bytes=0, charged_bytes=0, held_bytes=0,
            descriptors=0, threads=0, tasks=0, right_count=0,
        )  # fmt: skip

    samples = [sample(at) for at in (0.0, 1800.0, 3600.0)]
    assert slope(samples, [0, 2**20, 2**21]) == pytest.approx(2.0)
    assert slope(samples[:1], [1]) == 0.0


@pytest.mark.timeout(300)
def test_a_short_soak_survives_everything_at_once(tmp_path):
    command = [sys.executable, "-m", "load_tests", "soak", "--results", str(tmp_path)]
    command += ["--minutes", "0.1", "--models", "40", "--memory-megabytes", "4", "--rate", "40"]
    command += ["--fault-seconds", "0.5", "--pause-seconds", "0.3"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=290, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    [path] = tmp_path.glob("*.json")
    result = json.loads(path.read_text())
    assert result["failures"] == {}
    counts = {row["subject"]: row["value"] for row in result["findings"] if row["figure"] == RIGHT}
    assert {"hot", "cold", "overwritten", "mended", "pipelining"} <= counts.keys()
    assert result["raw"]["faults"]
    assert result["raw"]["samples"]

"""Lines: what they look like, that none is forged, that none is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from mme.logs import LineWriter

SET_UP = """
import logging, sys, structlog
from mme import logs
from mme.config import LogConfig
logs.configure(LogConfig(log_format={format!r}, log_level={level!r}))
log = structlog.get_logger()
"""


def logged(code: str, log_format: str = "json", level: str = "info") -> str:
    script = SET_UP.format(format=log_format, level=level) + code
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout == b""
    return done.stderr.decode()


def parsed(code: str, **settings) -> list[dict]:
    return [json.loads(line) for line in logged(code, **settings).splitlines()]


def test_an_event_is_one_json_object_with_time_level_and_event_first():
    (line,) = parsed("log.info('request', status=200, seconds=0.5, model=None)")
    assert list(line)[:3] == ["time", "level", "event"]
    assert line["time"].endswith("Z")
    del line["time"]
    assert line == {
        "level": "info",
        "event": "request",
        "status": 200,
        "seconds": 0.5,
        "model": None,
    }


def test_every_line_logged_before_the_exit_is_written():
    lines = parsed("for number in range(5000): log.info('n', number=number)")
    assert [line["number"] for line in lines] == list(range(5000))


def test_lines_logged_while_exiting_are_written():
    code = """
import atexit
atexit.register(log.info, 'late')
logs.close()
log.info('later')
"""
    assert {line["event"] for line in parsed(code)} == {"late", "later"}


def test_lines_below_the_level_are_not():
    assert parsed("log.info('a'); log.warning('b')", level="warning")[0]["event"] == "b"


HOSTILE = '\'model\\n{"event": "forged"}\\r\\x1b[2J \\udcff\\u2028x\''


def test_no_value_can_forge_a_json_line():
    (line,) = parsed(f"log.info('request', model={HOSTILE})")
    assert "forged" in line["model"]
    assert line["event"] == "request"


def test_the_quick_way_writes_what_the_long_way_does():
    code = f"""
fields = dict(status=200, seconds=0.5, model={HOSTILE}, route='é', containers={{'a': 0.25}})
logs.info_writer()('request', fields)
log.info('request', **fields)
"""
    quick, long = parsed(code)
    assert list(quick) == list(long)
    assert quick["time"] <= long.pop("time")
    del quick["time"]
    assert quick == long


def test_the_quick_way_is_for_json_lines_of_that_level_only():
    shown = "print(logs.info_writer() is not None, file=sys.stderr)"
    for log_format, level, expected in (
        ("json", "debug", True), ("json", "warning", False), ("text", "info", False)
    ):  # fmt: skip
        assert logged(shown, log_format, level) == f"{expected}\n"


def test_no_value_can_forge_a_text_line():
    lines = logged(f"log.info('request', model={HOSTILE}, n=1)", log_format="text").splitlines()
    assert len(lines) == 1
    assert "\x1b" not in lines[0]
    assert lines[0].endswith("n=1")


def test_no_traceback_can_forge_a_text_line():
    code = """
try:
    raise ValueError('x\\n2026 info forged')
except ValueError as error:
    log.error('e', exc_info=error)
"""
    first, *rest = logged(code, log_format="text").splitlines()
    assert " error " in first
    assert rest
    assert all(line.startswith("    | ") for line in rest)


def test_a_traceback_is_a_field_of_its_line():
    (line,) = parsed("try: 1/0\nexcept Exception as e: log.error('failed', exc_info=e)")
    assert "ZeroDivisionError" in line["exception"]


def test_what_libraries_log_comes_out_the_same_way_but_never_their_debug_lines():
    code = """
import warnings
logging.getLogger('aiohttp').warning('a %s', 'b')
logging.getLogger('aiohttp').log(35, 'odd')
logging.getLogger('botocore').debug('Authorization: secret')
warnings.warn('old')
"""
    first, second, third = parsed(code, level="debug")
    assert (first["event"], first["logger"], first["message"]) == ("library", "aiohttp", "a b")
    assert (second["level"], second["message"]) == ("warning", "odd")
    assert "old" in third["message"]


def test_a_value_that_is_no_json_is_shown():
    (line,) = parsed("log.info('x', where=object)")
    assert "object" in line["where"]


@pytest.fixture
def pipe():
    read, write = os.pipe()
    with os.fdopen(read, "rb") as reader, os.fdopen(write, "wb", buffering=0) as writer:
        yield reader, writer


def test_a_stuck_pipe_holds_up_nobody_and_lost_lines_are_counted(pipe):
    reader, stream = pipe
    writer = LineWriter(stream, lines_limit=10)
    line = b"x" * 1_000_000  # more than any pipe takes: the thread is stuck in its first write
    writer.write(line)
    while writer._lines:  # until the thread has taken it
        threading.Event().wait(0.001)
    for _ in range(15):
        writer.write(b"y")
    got = []
    drain = threading.Thread(target=lambda: got.extend(reader))
    drain.start()
    writer.close()
    stream.close()
    drain.join()
    assert got[0] == line + b"\n"
    assert got[1:11] == [b"y\n"] * 10
    assert json.loads(got[11])["lines"] == 5


def test_a_closed_stream_ends_nothing(pipe):
    reader, stream = pipe
    writer = LineWriter(stream)
    reader.close()
    writer.write(b"x")
    writer.close()
    writer.write(b"y")


def test_lines_of_many_threads_stay_whole(tmp_path):
    path = tmp_path / "log"
    with path.open("wb") as stream:
        writer = LineWriter(stream)
        threads = [
            threading.Thread(target=lambda: [writer.write(b"z" * 50) for _ in range(500)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.close()
    assert path.read_bytes() == (b"z" * 50 + b"\n") * 2000

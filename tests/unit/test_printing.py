"""What models print: told apart by thread, whole lines, and never more than is worth keeping."""

# ruff: noqa: T201 - printing is what is tested

from __future__ import annotations

import io
import logging
import sys
import threading

import pytest

from loaders.printing import LINE_LIMIT_CHARACTERS, LINES_LIMIT, speaking


def own_streams(monkeypatch):
    """The process's own streams, for what nobody listens to; pytest changes them after fixtures."""
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    return out, err


def test_both_streams_are_heard_line_by_line_and_nothing_is_written_through(monkeypatch):
    streams = own_streams(monkeypatch)
    heard = []
    with speaking(heard.append):
        print("one\ntwo")
        sys.stdout.write("thr")
        print("warned", file=sys.stderr)
        sys.stdout.write("ee\nfour")
        assert heard == ["one", "two", "warned", "three"]
    assert heard[-1] == "four"
    assert [stream.getvalue() for stream in streams] == ["", ""]


def test_after_it_the_streams_are_the_processs_again(monkeypatch):
    streams = own_streams(monkeypatch)
    with speaking(lambda line: None):
        pass
    print("out")
    print("err", file=sys.stderr)
    assert [stream.getvalue() for stream in streams] == ["out\n", "err\n"]


def test_each_thread_is_heard_by_its_own_sink(monkeypatch):
    streams = own_streams(monkeypatch)
    heard = {"a": [], "b": []}
    turns = threading.Barrier(2, timeout=5)

    def speak(name):
        with speaking(heard[name].append):
            for number in range(20):
                turns.wait()
                print(name, end="")
                turns.wait()
                print(number)

    threads = [threading.Thread(target=speak, args=(name,)) for name in heard]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == {name: [f"{name}{number}" for number in range(20)] for name in heard}
    assert streams[0].getvalue() == ""


def test_a_thread_without_a_sink_writes_through_while_another_speaks(monkeypatch):
    streams = own_streams(monkeypatch)
    heard = []
    with speaking(heard.append):
        thread = threading.Thread(target=print, args=("aside",))
        thread.start()
        thread.join()
    assert heard == []
    assert streams[0].getvalue() == "aside\n"


def test_an_inner_sink_hears_alone_and_then_the_outer_one_again(monkeypatch):
    streams = own_streams(monkeypatch)
    outer, inner = [], []
    with speaking(outer.append):
        print("1")
        with speaking(inner.append):
            sys.stdout.write("2")
        print("3")
    print("4")
    assert (outer, inner, streams[0].getvalue()) == (["1", "3"], ["2"], "4\n")


def test_a_line_too_long_is_cut_even_if_it_never_ends(monkeypatch):
    own_streams(monkeypatch)
    heard = []
    with speaking(heard.append):
        print("x" * (2 * LINE_LIMIT_CHARACTERS))
        for _ in range(100):
            sys.stdout.write("y" * 1_000)
    assert heard == [letter * LINE_LIMIT_CHARACTERS for letter in "xy"]


def test_lines_beyond_the_limit_are_counted(monkeypatch):
    own_streams(monkeypatch)
    heard = []
    with speaking(heard.append):
        for number in range(LINES_LIMIT + 3):
            print(number)
    assert len(heard) == LINES_LIMIT + 1
    assert heard[-1] == "(3 more lines were left out)"


def test_a_progress_bar_leaves_its_last_state_and_blank_lines_nothing(monkeypatch):
    own_streams(monkeypatch)
    heard = []
    with speaking(heard.append):
        for share in range(101):
            sys.stderr.write(f"\r{share}%")
        sys.stderr.write("\n\n  \n")
        print("windows\r")
    assert heard == ["100%", "windows"]


def test_what_cannot_be_encoded_is_replaced(monkeypatch):
    own_streams(monkeypatch)
    heard = []
    with speaking(heard.append):
        print("a\ud800b")
    assert heard == ["a?b"]


def test_a_sink_may_print_itself(monkeypatch):
    streams = own_streams(monkeypatch)
    with speaking(lambda line: print("heard", line)):
        print("one")
        print("two")
    assert streams[0].getvalue() == "heard one\nheard two\n"


def test_what_a_sink_raises_reaches_whoever_prints_and_the_next_line_is_heard(monkeypatch):
    own_streams(monkeypatch)
    heard = []

    def sink(line):
        heard.append(line)
        if line == "bad":
            raise OSError("gone")

    with speaking(sink):
        with pytest.raises(OSError, match="gone"):
            print("bad")
        print("good")
    assert heard == ["bad", "good"]


def test_logging_is_heard_whoever_made_its_handler(monkeypatch):
    own_streams(monkeypatch)
    heard = []
    with speaking(lambda line: None):
        handler = logging.StreamHandler()
    logger = logging.getLogger("tests.printing")
    logger.addHandler(handler)
    try:
        with speaking(heard.append):
            logger.warning("careful")
    finally:
        logger.removeHandler(handler)
    assert heard == ["careful"]


def test_writing_lines_and_asking_for_the_streams_own_work_as_before(monkeypatch):
    own_streams(monkeypatch)
    heard = []
    with speaking(heard.append):
        sys.stdout.writelines(["a\n", "b\n"])
        sys.stdout.flush()
        assert sys.stdout.isatty() is False
        with pytest.raises(io.UnsupportedOperation):
            sys.stdout.fileno()
    assert heard == ["a", "b"]

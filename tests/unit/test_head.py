"""The bytes before an answer's body: what every client has to read the same way."""

from __future__ import annotations

import pytest

from mme.front.head import format_head

NOW = 784111777.9  # RFC 9110's own example of a date


def lines(status=200, headers=None, **given):
    asked = {"body_bytes": 3, "is_http_11": True, "keep": True, "now": NOW, **given}
    head = format_head(status, headers or {}, **asked)
    assert head.endswith(b"\r\n\r\n")
    return head.decode().split("\r\n")[:-2]


def test_a_head_is_its_status_its_own_headers_and_those_of_every_answer():
    assert lines(200, {"Content-Type": "text/csv", "X": "é"}) == [
        "HTTP/1.1 200 OK",
        "Content-Type: text/csv",
        "X: é",
        "Server: mme",
        "Content-Length: 3",
        "Date: Sun, 06 Nov 1994 08:49:37 GMT",
    ]


@pytest.mark.parametrize(
    ("is_http_11", "keep", "said"),
    [
        (True, True, []),
        (True, False, ["Connection: close"]),
        (False, True, ["Connection: keep-alive"]),
        (False, False, []),
    ],
)
def test_only_what_its_version_does_not_imply_is_said_of_the_connection(is_http_11, keep, said):
    head = lines(is_http_11=is_http_11, keep=keep)
    assert head[0] == f"HTTP/1.{int(is_http_11)} 200 OK"
    assert [line for line in head if line.startswith("Connection")] == said


def test_a_status_without_a_name_has_an_empty_one():
    assert lines(530)[0] == "HTTP/1.1 530 "


def test_only_a_body_has_a_type():
    assert "Content-Type: application/octet-stream" in lines()
    assert not [line for line in lines(body_bytes=0) if line.startswith("Content-Type")]


@pytest.mark.parametrize("text", ["a\r\nX-Evil: 1", "a\n", "a\r"])
def test_no_header_can_be_two(text):
    with pytest.raises(ValueError, match="line break"):
        lines(headers={"X": text})

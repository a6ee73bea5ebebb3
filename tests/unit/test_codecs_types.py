"""Content-Type and Accept: which format is read, which is written, and what the refusal says."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.content_types import choose_accept, read_content_type
from loaders.contract import UnsupportedAccept, UnsupportedContentType

ALL = ("csv", "libsvm", "json", "jsonlines", "npy", "recordio-protobuf")
WRITABLE = ("json", "csv", "jsonlines", "npy", "recordio-protobuf")
OPERATORS_CHOICE = "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (None, "libsvm"),
        ("", "libsvm"),
        ("csv", "csv"),
        ("text/csv", "csv"),
        ("Text/CSV ; charset=utf-8", "csv"),
        ('text/csv; charset="UTF-8"; label_size=1', "csv"),
        ("text/libsvm", "libsvm"),
        ("text/x-libsvm", "libsvm"),
        ("libsvm", "libsvm"),
        ("application/json", "json"),
        ("application/jsonlines", "jsonlines"),
        ("application/x-jsonlines", "jsonlines"),
        ("application/x-npy", "npy"),
        ("recordio-protobuf", "recordio-protobuf"),
        ("application/x-recordio-protobuf; charset=utf-8", "recordio-protobuf"),
    ],
)
def test_a_content_type_names_its_format(header, name):
    assert read_content_type(header, ALL, "libsvm").name == name


def test_a_strange_content_type_is_refused_with_the_list():
    with pytest.raises(UnsupportedContentType) as caught:
        read_content_type("image/png", ("csv", "libsvm"), "libsvm")
    assert str(caught.value) == (
        "image/png is not an accepted ContentType: "
        "csv, text/csv, libsvm, text/libsvm, text/x-libsvm."
    )
    assert caught.value.status == 415


@pytest.mark.parametrize("header", ["text/csv; charset=zip", "text/csv; label_size=0"])
def test_parameters_that_cannot_be_honoured_are_refused(header):
    with pytest.raises(UnsupportedContentType):
        read_content_type(header, ALL, "libsvm")


@pytest.mark.parametrize(
    ("header", "name", "content_type"),
    [
        (None, "json", "application/json"),
        ("*/*", "json", "application/json"),
        ("text/csv", "csv", "text/csv"),
        ("csv", "csv", "text/csv"),
        ("text/csv; charset=utf-8", "csv", "text/csv"),
        ("text/csv, application/json", "csv", "text/csv"),
        ("image/png, application/x-npy", "npy", "application/x-npy"),
        ("application/json;q=0.1, text/csv;q=0.9", "csv", "text/csv"),
        ("application/x-jsonlines", "jsonlines", "application/x-jsonlines"),
        ("text/*", "csv", "text/csv"),
        ("application/*", "json", "application/json"),
        ("image/png, */*;q=0.1", "json", "application/json"),
        ("application/x-recordio-protobuf", "recordio-protobuf", "application/x-recordio-protobuf"),
        ("text/csv;q=0, application/json", "json", "application/json"),
        ("Text/CSV , */*", "csv", "text/csv"),
        (", ,application/x-npy", "npy", "application/x-npy"),
        ("text/csv;q=high", "csv", "text/csv"),
    ],
)
def test_the_preferred_format_that_can_be_written_is_chosen(header, name, content_type):
    accept = choose_accept(header, WRITABLE, "json")
    assert (accept.name, accept.content_type) == (name, content_type)


@pytest.mark.parametrize("header", ["image/png", "text/libsvm", "*/*;q=0", "image/*"])
def test_an_accept_that_cannot_be_met_is_refused(header):
    with pytest.raises(UnsupportedAccept, match=r"Accept type .* is not supported\. Please use"):
        choose_accept(header, WRITABLE, "json")


@pytest.mark.parametrize(
    ("operators", "header", "name"),
    [
        ("text/csv", None, "csv"),
        ("text/csv", "", "csv"),
        ("text/csv", "*/*", "csv"),
        ("text/csv", "image/png, */*;q=0.1", "csv"),
        ("text/csv", "application/x-npy", "npy"),
        ("text/csv", "application/*", "json"),
        ("image/png, application/x-npy", None, "npy"),
        ("*/*", "*/*", "json"),
        ("", None, "json"),
    ],
)
def test_the_operators_choice_counts_where_the_client_makes_none(
    monkeypatch, operators, header, name
):
    monkeypatch.setenv(OPERATORS_CHOICE, operators)
    assert choose_accept(header, WRITABLE, "json").name == name


def test_an_operators_choice_that_cannot_be_written_is_refused_as_a_clients_would_be(monkeypatch):
    monkeypatch.setenv(OPERATORS_CHOICE, "image/png")
    with pytest.raises(UnsupportedAccept, match="Accept type image/png is not supported"):
        choose_accept("*/*", WRITABLE, "json")
    assert choose_accept("text/csv", WRITABLE, "json").name == "csv"


@given(header=st.text())
def test_header_garbage_is_judged_and_nothing_else(header):
    with suppress(UnsupportedContentType):
        assert read_content_type(header, ALL, "csv").name in ALL
    with suppress(UnsupportedAccept):
        assert choose_accept(header, WRITABLE, "json").name in WRITABLE

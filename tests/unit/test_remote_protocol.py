"""What goes between front processes and the engine's: the same on either side, cut anywhere."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mme.front.heads import Heads, pack_head
from mme.front.remote_protocol import (
    Answered,
    Ask,
    Beat,
    Drain,
    End,
    Gone,
    Invite,
    More,
    Parcel,
    Taken,
    Unreadable,
    decode,
)
from mme.workers.protocol import FrameBuffer, ProtocolError
from tests.parsed_heads import parsed

streams = st.integers(1, 2**40)
messages = st.one_of(
    st.builds(
        Ask, streams, st.binary(), st.none() | st.binary(),
        st.none() | st.dictionaries(st.text(), st.text()),
    ),
    st.builds(Unreadable, streams, st.text()),
    st.builds(Gone, streams),
    st.builds(Beat, st.just(0), st.integers(0, 10**6)),
    st.builds(
        Answered, streams, st.integers(200, 599), st.dictionaries(st.text(), st.text()),
        st.binary(), st.booleans(), st.booleans(),
    ),
    st.builds(Invite, streams),
    st.builds(Drain, st.just(0)),
    st.builds(More, streams, st.binary()),
    st.builds(Taken, streams),
    st.builds(End, streams, st.booleans()),
)  # fmt: skip
visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#?"))
values = st.binary(max_size=40).map(
    lambda raw: bytes(byte for byte in raw if byte not in b"\r\n\0").strip()
)
names = st.text("abcXYZ-", min_size=1, max_size=9)


@given(turns=st.lists(st.lists(messages, min_size=1), max_size=4), cuts=st.lists(st.integers(0)))
def test_any_split_of_any_parcels_gives_the_same_messages(turns, cuts):
    parcel, sent = Parcel(), b""
    for turn in turns:
        for message in turn:
            parcel.add(message)
        sent += parcel.take()
        assert len(parcel) == 0
    at = [0, *sorted(cut % (len(sent) + 1) for cut in cuts), len(sent)]
    frames = FrameBuffer()
    seen = [
        message
        for start, end in pairwise(at)
        for frame in frames.feed(sent[start:end])
        for message in decode(frame)
    ]
    assert seen == [message for turn in turns for message in turn]


def test_what_cannot_be_said_leaves_the_others_of_its_parcel_alone():
    parcel = Parcel()
    parcel.add(Gone(1))
    with pytest.raises(ValueError, match="surrogates"):
        parcel.add(Answered(2, 200, {"X": "\udcff"}, b"", keep=True, in_pieces=False))
    parcel.add(Gone(3))
    (frame,) = FrameBuffer().feed(bytes(parcel.take()))
    assert decode(frame) == [Gone(1), Gone(3)]


@given(st.binary())
def test_rubbish_is_a_protocol_error_or_messages(data):
    try:
        decode(data)
    except ProtocolError:
        return


def read(raw):
    """The head as the front's parser has it; None: it is no HTTP."""
    try:
        [(head, _)] = parsed(raw)
    except Exception:  # noqa: BLE001 - of many kinds; what is no HTTP never comes so far
        return None
    return head


@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "HEAD"]),
    before=st.sampled_from(["", "http://host:80", "/.."]),
    path=visible,
    query=st.none() | visible,
    version=st.sampled_from(["1.0", "1.1"]),
    fields=st.lists(st.tuples(names, values)),
)
def test_a_head_is_the_same_in_the_other_process_to_the_byte(
    method, before, path, query, version, fields
):
    target = f"{before}/{path}" + (f"?{query}" if query is not None else "")
    lines = [f"{method} {target} HTTP/{version}".encode(), b"Host: x"]
    lines += [name.encode() + b": " + value for name, value in fields]
    head = read(b"\r\n".join([*lines, b"", b""]))
    if head is None:
        return
    there = Heads().unpack(*pack_head(head))
    assert (there.method, there.version, there.should_close) == (
        head.method,
        head.version,
        head.should_close,
    )
    assert list(there.headers.items()) == list(head.headers.items())
    assert there.url.raw_path == head.url.raw_path
    assert there.url.raw_query_string == head.url.raw_query_string
    assert there.url.query == head.url.query


def test_a_head_that_comes_again_is_read_once_and_a_signed_one_not_kept():
    heads = Heads()
    plain, _ = pack_head(read(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"))
    signed, _ = pack_head(read(b"GET /a HTTP/1.1\r\nHost: x\r\nX-Amz-Date: 1\r\n\r\n"))
    assert heads.unpack(plain, None) is heads.unpack(bytes(bytearray(plain)), None)
    assert heads.unpack(signed, None) is not heads.unpack(signed, None)

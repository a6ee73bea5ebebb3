"""What a console's search may ask."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mme.errors import InvalidRequest
from mme.front.console_query import SORTS, Search, read_search


def test_all_parts_are_read():
    query = {"search": "ACME  v2", "sort": "bytes", "resident": "1", "offset": "40", "limit": "20"}
    assert read_search(query) == Search(
        terms=("acme", "v2"), sort="bytes", only_resident=True, offset=40, limit=20
    )
    assert read_search({}) == Search()


@pytest.mark.parametrize(
    "query",
    [{"sort": "secret"}, {"limit": "0"}, {"limit": "201"}, {"offset": "-1"}, {"offset": "٣"}],
)
def test_what_it_may_not_be_is_refused(query):
    with pytest.raises(InvalidRequest):
        read_search(query)


@given(
    st.dictionaries(st.sampled_from(["search", "sort", "resident", "offset", "limit"]), st.text())
)
def test_garbage_is_refused_or_within_the_limits(query):
    try:
        told = read_search(query)
    except InvalidRequest:
        return
    assert told.sort in SORTS
    assert 1 <= told.limit <= 200
    assert told.offset >= 0

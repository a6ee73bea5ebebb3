"""Pages over names that come and go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mme.errors import InvalidRequest
from mme.front.pages import read_page

names = st.sets(st.text(min_size=1, max_size=8), max_size=30)


@given(names, st.integers(1, 100))
def test_walking_the_tokens_shows_every_name_once_in_order(everything, limit):
    seen, query = [], {"limit": str(limit)}
    while True:
        page, token = read_page(everything, query)
        assert len(page) <= limit
        seen += page
        if token is None:
            break
        assert page
        query["next_page_token"] = token
    assert seen == sorted(everything)


@given(names, names, names)
def test_what_comes_and_goes_between_pages_neither_hides_nor_repeats_the_others(stay, gone, new):
    first, token = read_page(stay | gone, {"limit": "5"})
    second, rest = [], token
    while rest is not None:
        page, rest = read_page(stay | new, {"limit": "5", "next_page_token": rest})
        second += page
    assert not set(first) & set(second)
    if token is not None:
        assert stay <= set(first) | set(second)


@given(st.text(max_size=12), st.text(max_size=12))
def test_any_query_is_a_page_or_a_refusal(limit, token):
    try:
        read_page(["a"], {"limit": limit, "next_page_token": token})
    except InvalidRequest as error:
        assert str(error).startswith(("limit", "next_page_token"))  # noqa: PT017 - both are right


def test_the_last_page_of_a_whole_number_of_pages_has_no_token():
    assert read_page(["a", "b"], {"limit": "2"}) == (["a", "b"], None)
    with pytest.raises(InvalidRequest):
        read_page(["a"], {"limit": "101"})

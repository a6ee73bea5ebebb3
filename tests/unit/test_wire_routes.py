"""Method and path in, route out."""

from __future__ import annotations

from functools import partial

import pytest

from mme.front.access import Action
from mme.front.routes import Match, NoMatch, Route, RouteTable

route = partial(Route, action=Action.INVOKE, answer=None, refuse=None)
EXACT = route(name="exact", method="GET", path="/ping")
POST = route(name="post", method="POST", path="/endpoints/{}/invocations")
DELETE = route(name="delete", method="DELETE", path="/endpoints/{}/invocations")
TABLE = RouteTable([EXACT, POST, DELETE])


def test_an_exact_path_and_a_path_with_a_segment_are_found():
    assert TABLE.find("GET", "/ping") == Match(EXACT)
    assert TABLE.find("POST", "/endpoints/a/invocations") == Match(POST, "a")
    assert TABLE.find("DELETE", "/endpoints/a/invocations") == Match(DELETE, "a")


def test_a_segment_is_percent_decoded_after_the_split():
    assert TABLE.find("POST", "/endpoints/a%20b%2Fc/invocations") == Match(POST, "a b/c")


def test_another_method_is_told_from_another_path():
    assert TABLE.find("POST", "/ping") == NoMatch(("GET",))
    assert TABLE.find("GET", "/endpoints/a/invocations") == NoMatch(("DELETE", "POST"))


@pytest.mark.parametrize(
    "path",
    ["", "/", "/ping/", "//ping", "/endpoints//invocations", "/endpoints/a/b/invocations", "*"],
)
def test_near_misses_are_misses(path):
    assert TABLE.find("POST", path) == NoMatch()

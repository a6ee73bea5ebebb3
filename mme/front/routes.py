"""Pure: method and path -> the route that answers, by one small table.

Decision: a path is exact, or holds one `{}` for one segment or `{...}` for several, which is all
that the dialects need; of paths with these the first that fits is it.
The labels of metrics are route names, so that no client can make new ones.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from mme.front.access import Action
from mme.front.exchange import Exchange
from mme.front.wire import Answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One operation of one dialect."""

    name: str  # in logs and as a metric's label
    method: str
    path: str  # e.g. /ping, or /endpoints/{}/invocations
    answer: Callable[[Exchange], Awaitable[Answer]]
    refuse: Callable[[Exception, Exchange], Answer]  # in the shape that the dialect's clients read
    action: Action  # that a caller must be allowed
    invokes: bool = False  # it is work: refused while draining, logged at info, counted as such
    operates: bool = False  # it is for operators' address, whatever its action


@dataclass(frozen=True, slots=True)
class Match:
    """The route of a request, and what stood in the place of `{}`, percent-decoded."""

    route: Route
    segment: str = ""


@dataclass(frozen=True, slots=True)
class NoMatch:
    """Nothing answers: no such path, or not by this method."""

    allowed: tuple[str, ...] = ()  # methods that the path knows; none: there is no such path


class RouteTable:
    """All routes of a server."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, dict[str, Match]] = {}
        self._patterns: dict[str, tuple[re.Pattern[str], dict[str, Route]]] = {}
        for route in routes:
            if "{" in route.path:
                text = re.escape(route.path).replace(r"\{\}", "([^/]+)")
                pattern = re.compile(text.replace(r"\{\.\.\.\}", "(.+)"))
                self._patterns.setdefault(route.path, (pattern, {}))[1][route.method] = route
            else:
                self._exact.setdefault(route.path, {})[route.method] = Match(route)

    def find(self, method: str, path: str) -> Match | NoMatch:
        """The route for a method and a path as it came, percent-encoded and without its query."""
        exact = self._exact.get(path)
        if exact is not None:
            return exact.get(method) or NoMatch(tuple(sorted(exact)))
        for pattern, routes in self._patterns.values():
            match = pattern.fullmatch(path)
            if match is not None:
                route = routes.get(method)
                segment = unquote(match[1], errors="surrogateescape")
                return Match(route, segment) if route else NoMatch(tuple(sorted(routes)))
        return NoMatch()

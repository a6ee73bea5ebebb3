"""Who is let in where nobody is asked who they are: anyone but pages of other sites.

Decision: what this machine alone can reach, pages that its user visits reach through the browser.
It tells of that in `Sec-Fetch-Site`, or else in `Origin`; a link that was clicked may be followed.
What it can't tell is a site whose name was made to lead here (DNS rebinding): it takes us for that
site's own server. So a server for this machine has no name of the Internet, all of which have dots.
With keys none of this is needed: no browser adds those by itself.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address

from multidict import MultiMapping, istr

from mme.config import ServerConfig
from mme.errors import AccessDenied
from mme.front.access import Action
from mme.front.exchange import Exchange

_SITE, _USER = istr("Sec-Fetch-Site"), istr("Sec-Fetch-User")
_ORIGIN, _HOST = istr("Origin"), istr("Host")
_OURS = frozenset({"same-origin", "none"})  # none: typed, or a bookmark


class OpenGate:
    """Lets in who is no other site's page."""

    def __init__(self, server: ServerConfig) -> None:
        self._is_for_this_machine = not (server.no_auth or server.container in {"multi", "single"})

    async def admit(self, exchange: Exchange, _action: Action) -> None:
        """Raises AccessDenied."""
        headers = exchange.head.headers
        if self._is_for_this_machine and not _is_of_this_machine(headers.get(_HOST, "")):
            raise AccessDenied(
                "This server is for its own machine, and has no name with dots (Host). "
                "Where a proxy asks who calls, start it with --no-auth."
            )
        if _is_of_another_site(exchange.head.method, headers):
            raise AccessDenied("This was asked by a page of another site, by way of a browser.")


def _is_of_another_site(method: str, headers: MultiMapping[str]) -> bool:
    site = headers.get(_SITE)
    if site is not None:
        return site not in _OURS and not (method == "GET" and _USER in headers)
    origin = headers.get(_ORIGIN)
    if origin is None:
        return False
    return origin.rpartition("://")[2].lower() != headers.get(_HOST, "").lower()


@lru_cache(maxsize=64)
def _is_of_this_machine(host: str) -> bool:
    """Whether a `Host` is an address or no name of the Internet; browsers never leave it out."""
    name = host.partition("]")[0].removeprefix("[") if host[:1] == "[" else host.partition(":")[0]
    try:
        ip_address(name)
    except ValueError:
        return "." not in name.lower().removesuffix(".localhost")
    return True

"""The GET that a store sends again and again, without the steps that botocore takes around each.

Decisions: where objects lie, in which region they are signed for and with which headers is learned
from a GET of botocore's own that was answered, be it by "unchanged" or by "no such key"; what
differs from that one in more than the key goes to botocore again. It is asked, too, whenever the
answer is neither the object nor "unchanged" nor "not there", so that its retries, redirects and
words for errors stay the only ones; and each time where there is a proxy. It took 2.8 ms of
processor time a GET, more than all else of a small model's way to disk; this takes 0.3. What would
change our mind: botocore in a tenth of its time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol, Self
from urllib.parse import quote, urlsplit

from mme.store.s3_wire import Answer, Wire

_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/,]+/\d{8}/([^/,]+)/s3/aws4_request, ?SignedHeaders=([^,]+),"
)
_TOKEN = "x-amz-security-token"  # noqa: S105 - a header's name
_SIGNED = ("host", "x-amz-content-sha256", "x-amz-date")
_CONDITIONS = ("if-match", "if-none-match", "range")  # need not be signed
_PLAIN = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "mme"}
_KNOWN = frozenset({*_SIGNED, _TOKEN, *_CONDITIONS, "amz-sdk-invocation-id", "amz-sdk-request"})


class Credentials(Protocol):
    """Frozen ones, as botocore names them."""

    access_key: str
    secret_key: str
    token: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a bucket's objects lie, and which region's signature they want."""

    base: str  # a URL up to where keys begin
    region: str
    host: str = field(init=False)
    path: str = field(init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.base)
        object.__setattr__(self, "host", parts.netloc)
        object.__setattr__(self, "path", parts.path)

    @classmethod
    def of(cls, url: str, key: str, authorization: str) -> Self | None:
        """What a signed GET of `key` tells; None where another would have to differ from it."""
        found = _AUTHORIZATION.match(authorization)
        if found is None or not url.endswith("/" + quoted(key)):
            return None
        if not set(found[2].split(";")) <= _KNOWN:
            return None
        return cls(base=url.removesuffix(quoted(key)), region=found[1])

    def sign(self, key: str, credentials: Credentials, at: datetime) -> dict[str, str]:
        """The headers of a GET of `key` at that time (UTC), signed."""
        stamp = at.strftime("%Y%m%dT%H%M%SZ")
        headers = dict(zip(_SIGNED, (self.host, _EMPTY_SHA256, stamp), strict=True))
        if credentials.token:
            headers[_TOKEN] = credentials.token
        names = ";".join(headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        request = f"GET\n{self.path}{quoted(key)}\n\n{lines}\n{names}\n{_EMPTY_SHA256}"
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
        signing_key = _signing_key(credentials.secret_key, stamp[:8], self.region)
        signature = hmac.digest(signing_key, text.encode(), "sha256").hex()
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        return headers


class DirectGet:
    """GETs of one bucket's objects, once a first one was seen.

    Args:
        sender: aiobotocore's, which has the connections.
        credentials: those of the moment.
    """

    def __init__(self, sender: Any, credentials: Callable[[], Awaitable[Credentials]]) -> None:  # noqa: ANN401 - untyped
        self._sender = sender
        self._credentials = credentials
        self._place: Place | None = None
        self._wire: Wire | None = None  # where there is a place
        self._sent: Any = None  # botocore's latest

    def note(self, request: Any, **_: object) -> None:  # noqa: ANN401 - botocore's
        """For botocore to call: what it is about to send."""
        self._sent = request

    def learn(self, key: str) -> None:
        """Takes in what a GET of `key` looked like that was answered, if it is the latest one."""
        if self._place is None and self._sent is not None:
            told = self._sent.headers.get("Authorization", b"")
            text = told.decode() if isinstance(told, bytes) else str(told)
            session = self._sender._sessions.get(None)  # noqa: SLF001 - None: without a proxy
            if session is not None and (place := Place.of(self._sent.url, key, text)):
                self._place, self._wire = place, Wire(session, place.base)

    def forget(self) -> None:
        """Something is not as it was: the next GET is botocore's."""
        self._place = None

    async def get(self, key: str, conditions: Mapping[str, str]) -> Answer | None:
        """The answer; None where botocore has to ask.

        Args:
            key: the whole object key.
            conditions: headers of these: If-Match, If-None-Match, Range.

        Raises: what getting credentials raises.
        """
        place, wire = self._place, self._wire
        if place is None or wire is None:
            return None
        headers = place.sign(key, await self._credentials(), datetime.now(UTC))
        try:
            return await wire.get(place.path + quoted(key), headers | _PLAIN | dict(conditions))
        except Exception:  # noqa: BLE001 - botocore asks again, and has words for it
            self.forget()
            return None


def quoted(key: str) -> str:
    """A key as it stands in a URL."""
    return quote(key, safe="/~")


@lru_cache(maxsize=8)
def _signing_key(secret_key: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key

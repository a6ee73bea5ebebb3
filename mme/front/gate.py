"""Who asks: a signature or an API key -> the caller, before anything is done for them.

Decision: a signature covers the body, so the body is received whole before the caller is trusted;
but only from who names a key that exists, in a claim that may be right.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

from multidict import MultiMapping, istr

from mme.config import ServerConfig
from mme.errors import Unauthenticated
from mme.front.access import Action, Caller
from mme.front.credentials import AccessKey, KeyFile
from mme.front.exchange import Exchange
from mme.front.signature import ALGORITHM, read_claim, verify

_AUTHORIZATION, _API_KEY = istr("Authorization"), istr("X-API-Key")
_INVALID = "The security token included in the request is invalid."
_EXPIRED = "The security token included in the request is expired"


class Gate:
    """Lets in who has a key of the file.

    Args:
        clock: the time of day, in seconds since the epoch.
    """

    def __init__(
        self, file: KeyFile, server: ServerConfig, clock: Callable[[], float] = time.time
    ) -> None:
        self._file = file
        self._server = server
        self._clock = clock

    async def admit(self, exchange: Exchange, action: Action) -> None:
        """Notes the caller in the exchange.

        Raises:
            Unauthenticated: who asks has not shown who they are.
            AccessDenied: they may not do this to anything.
            RequestError: as `Exchange.receive`.
        """
        headers = exchange.head.headers
        authorization = _single(headers, _AUTHORIZATION)
        if authorization.startswith(ALGORITHM):
            key = await self._signer(exchange, authorization)
        else:
            key = self._bearer(_token(authorization, _single(headers, _API_KEY)))
        exchange.caller = self._caller(key, action)

    def admit_bearer(self, authorization: str, action: Action) -> Caller:
        """The caller of `Authorization: Bearer ...` alone. Raises as `admit`."""
        return self._caller(self._bearer(_token(authorization, "")), action)

    def _caller(self, key: AccessKey, action: Action) -> Caller:
        caller = Caller(grant=key.grant, action=action, server=self._server)
        caller.check_action()
        return caller

    async def _signer(self, exchange: Exchange, authorization: str) -> AccessKey:
        head, now_seconds = exchange.head, self._clock()
        claim = read_claim(head.headers, authorization, now_seconds)
        key = self._file.keys().signing.get(claim.credential.access_key_id)
        if key is None or not _is_same_token(claim.token, key.session_token):
            raise Unauthenticated("UnrecognizedClientException", _INVALID)
        verify(
            claim,
            key.secret,
            method=head.method,
            path=head.url.raw_path,
            query=head.url.raw_query_string,
            headers=head.headers,
            body=await exchange.receive(),
        )
        return self._valid(key, now_seconds)

    def _bearer(self, token: str) -> AccessKey:
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        key = self._file.keys().bearing.get(digest)
        if key is None:
            raise Unauthenticated("UnrecognizedClientException", _INVALID)
        return self._valid(key, self._clock())

    def _valid(self, key: AccessKey, now_seconds: float) -> AccessKey:
        if key.expires_seconds is not None and key.expires_seconds <= now_seconds:
            raise Unauthenticated("ExpiredTokenException", _EXPIRED)
        return key


def _token(authorization: str, api_key: str) -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if authorization:
        raise Unauthenticated(
            "IncompleteSignature", f"Authorization must be {ALGORITHM} or Bearer."
        )
    if not api_key:
        raise Unauthenticated("MissingAuthenticationToken", "Missing Authentication Token")
    return api_key


def _single(headers: MultiMapping[str], name: str) -> str:
    values = headers.getall(name, ())
    if len(values) > 1:
        raise Unauthenticated("IncompleteSignature", f"{name} must be given once only.")
    return values[0] if values else ""


def _is_same_token(given: str | None, known: str | None) -> bool:
    if given is None or known is None:
        return given is known
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), known.encode())

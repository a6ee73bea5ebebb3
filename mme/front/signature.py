"""Pure: was this request signed, as AWS's SDKs sign it (Signature Version 4), with that secret.

Decisions: path and query are taken as they came and as the routes see them, so that what was
verified is what is done. Whatever of the headers acts here must be signed, or a request that was
overheard could be sent again to another model. A claim is read from the headers alone, so that who
can't be right is refused before a body is received.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from calendar import timegm
from functools import lru_cache
from time import gmtime, strftime, strptime
from urllib.parse import quote

from msgspec import Struct
from multidict import MultiMapping, istr

from mme.errors import Unauthenticated

ALGORITHM = "AWS4-HMAC-SHA256"
SECURITY_TOKEN = istr("x-amz-security-token")
_SERVICE, _END = "sagemaker", "aws4_request"
_MOMENT, _CONTENT_HASH = istr("x-amz-date"), istr("x-amz-content-sha256")
_UNSIGNED = "UNSIGNED-PAYLOAD"
_SKEW_SECONDS = 300
_ACTING = frozenset({"x-amz-date", "x-amz-content-sha256", "x-amz-security-token"})
_ACTING_PREFIX = "x-amzn-sagemaker-"
_FORM = "%Y%m%dT%H%M%SZ"
_PARAMETERS = ("Credential", "SignedHeaders")
_WRONG = (
    "The request signature we calculated does not match the signature you provided. Check your AWS "
    "Secret Access Key and signing method. Consult the service documentation for details."
)


class Credential(Struct, frozen=True, kw_only=True):
    """What stands before the signature; the same in many requests of a day."""

    access_key_id: str
    date: str  # e.g. 20260102
    region: str
    signed_headers: tuple[str, ...]  # in lower case


class Claim(Struct, frozen=True, kw_only=True):
    """What a request says of its own signature."""

    credential: Credential
    signature: str
    moment: str  # when it was signed, e.g. 20260102T030405Z
    content_hash: str | None  # of the body, as the request announces it
    token: str | None  # of the session


def read_claim(headers: MultiMapping[str], authorization: str, now_seconds: float) -> Claim:
    """Reads the headers of a signed request.

    Args:
        headers: as they came, without regard to case.
        authorization: the header of that name, of this algorithm.
        now_seconds: since the epoch.

    Raises:
        Unauthenticated: it is incomplete, not for this service, or not of these five minutes.
    """
    head, _, signature = authorization.removeprefix(ALGORITHM).rpartition("Signature=")
    credential = _read_credential(head)
    if not signature:
        raise _incomplete("Authorization header requires 'Signature' parameter.")
    moment = headers.get(_MOMENT)
    if moment is None:
        raise _incomplete("Authorization header requires existence of a 'X-Amz-Date' header.")
    _check_moment(moment, credential.date, now_seconds)
    unsigned = _unsigned(tuple(headers), credential.signed_headers)
    if unsigned is not None:
        raise _mismatch(f"'{unsigned}' must be a 'SignedHeader' in the AWS Authorization.")
    return Claim(
        credential=credential,
        signature=signature.strip(),
        moment=moment,
        content_hash=headers.get(_CONTENT_HASH),
        token=headers.get(SECURITY_TOKEN),
    )


def verify(  # noqa: PLR0913 - what is signed
    claim: Claim,
    secret: str,
    *,
    method: str,
    path: str,
    query: str,
    headers: MultiMapping[str],
    body: bytes,
) -> None:
    """Raises Unauthenticated where the claim's signature is not this request's under this secret.

    Args:
        claim: that was read from these headers.
        secret: the secret access key.
        method: in capitals.
        path: percent-encoded, as it came.
        query: as it came, without its question mark.
        headers: as they came.
        body: all of it.
    """
    credential, content_hash = claim.credential, claim.content_hash
    if content_hash != _UNSIGNED:
        found = hashlib.sha256(body).hexdigest()
        if content_hash is not None and not _same(content_hash, found):
            raise _mismatch(_WRONG)
        content_hash = found
    lines = [method, canonical_path(path), _canonical_query(query)]
    lines += [f"{name}:{_canonical_value(headers, name)}" for name in credential.signed_headers]
    lines += ["", ";".join(credential.signed_headers), content_hash]
    request = "\n".join(lines).encode("utf-8", "surrogateescape")
    scope = f"{credential.date}/{credential.region}/{_SERVICE}/{_END}"
    signed = "\n".join((ALGORITHM, claim.moment, scope, hashlib.sha256(request).hexdigest()))
    key = _signing_key(secret, credential.date, credential.region)
    if not _same(hmac.digest(key, signed.encode(), "sha256").hex(), claim.signature):
        raise _mismatch(_WRONG)


@lru_cache(maxsize=1024)
def canonical_path(path: str) -> str:
    """A path as it is signed: without dot and empty segments, and percent-encoded once more."""
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment not in {"", "."}:
            kept.append(segment)
    end = "/" if kept and segments[-1] == "" else ""
    return quote("/" + "/".join(kept) + end, safe="/~", encoding="utf-8", errors="surrogateescape")


def _canonical_query(query: str) -> str:
    if not query:
        return ""
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&"))
    return "&".join(f"{name}={value}" for name, value in pairs)


def _canonical_value(headers: MultiMapping[str], name: str) -> str:
    return ",".join([" ".join(value.split()) for value in headers.getall(name, ())])


@lru_cache(maxsize=1024)
def _signing_key(secret: str, date: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, _SERVICE, _END):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@lru_cache(maxsize=256)
def _read_credential(text: str) -> Credential:
    given = dict(part.strip().partition("=")[::2] for part in text.split(","))
    missing = [name for name in _PARAMETERS if not given.get(name)]
    if missing:
        raise _incomplete(
            " ".join(f"Authorization header requires '{name}' parameter." for name in missing)
        )
    if not text.isascii():
        raise _incomplete("Authorization header must be ASCII.")
    access_key_id, date, region = _read_scope(given["Credential"])
    signed = tuple(given["SignedHeaders"].lower().split(";"))
    return Credential(access_key_id=access_key_id, date=date, region=region, signed_headers=signed)


def _read_scope(credential: str) -> tuple[str, str, str]:
    # from the right: an id of ours may hold slashes, the others can't
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or not all(parts):  # noqa: PLR2004 - id, date, region, service, end
        raise _incomplete(
            "Credential must have at least 5 slash-delimited elements, "
            "e.g. keyid/date/region/service/term."
        )
    access_key_id, date, region, service, end = parts
    if service != _SERVICE:
        raise _mismatch(f"Credential should be scoped to correct service: '{_SERVICE}'.")
    if end != _END:
        raise _mismatch(f"Credential should be scoped with a valid terminator: '{_END}'.")
    return access_key_id, date, region


def _check_moment(moment: str, date: str, now_seconds: float) -> None:
    try:
        signed_seconds = _seconds(moment)
    except ValueError:
        raise _incomplete("Date must be in ISO-8601 'basic format', e.g. 20260102T030405Z.") from (
            None
        )
    if not moment.startswith(date + "T"):
        raise _mismatch("Date in Credential scope does not match YYYYMMDD of X-Amz-Date.")
    if abs(signed_seconds - now_seconds) > _SKEW_SECONDS:
        raise _mismatch(_skew(moment, signed_seconds, now_seconds))


def _skew(moment: str, signed_seconds: float, now_seconds: float) -> str:
    now = _text(now_seconds)
    if signed_seconds < now_seconds:
        limit = _text(now_seconds - _SKEW_SECONDS)
        return f"Signature expired: {moment} is now earlier than {limit} ({now} - 5 min.)"
    limit = _text(now_seconds + _SKEW_SECONDS)
    return f"Signature not yet current: {moment} is still later than {limit} ({now} + 5 min.)"


@lru_cache(maxsize=64)
def _seconds(moment: str) -> int:
    if not re.fullmatch(r"[0-9]{8}T[0-9]{6}Z", moment):
        raise ValueError(moment)  # strptime would take less
    return timegm(strptime(moment, _FORM))


def _text(seconds: float) -> str:
    return strftime(_FORM, gmtime(seconds))


@lru_cache(maxsize=256)
def _unsigned(names: tuple[str, ...], signed: tuple[str, ...]) -> str | None:
    """The first header that would have to be signed and is not."""
    acting = (name.lower() for name in names)
    must = ["host", *(n for n in acting if n in _ACTING or n.startswith(_ACTING_PREFIX))]
    return next((name for name in must if name not in signed), None)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode("utf-8", "surrogateescape"))


def _incomplete(message: str) -> Unauthenticated:
    return Unauthenticated("IncompleteSignature", message)


def _mismatch(message: str) -> Unauthenticated:
    return Unauthenticated("InvalidSignatureException", message)

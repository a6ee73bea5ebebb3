"""The access-key file: who may ask, how they prove it, and what they may do.

Decisions: a new file takes over whole, or not at all: one that is broken leaves the old keys and a
line in the log. Neither keys nor what they were compared with stand in any message or log; `repr`
hides them. API keys are kept as digests, and found by them: how long that takes tells nothing.
"""

from __future__ import annotations

import hashlib
import re
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from mme import logs
from mme.errors import ConfigError
from mme.front.access import Action, Grant, Patterns
from mme.front.watch import Watch

_DIGEST = re.compile(r"[0-9a-f]{64}")
_ALL = ("*",)
_ACTIONS = [action.value for action in Action if action is not Action.OPEN]


class _Entry(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One `[[keys]]` table."""

    name: str
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    api_key: str | None = None
    api_key_sha256: str | None = None
    expires: datetime | None = None
    actions: tuple[str, ...] = ("invoke",)
    endpoints: tuple[str, ...] = _ALL
    models: tuple[str, ...] = _ALL
    containers: tuple[str, ...] = _ALL


class _File(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[_Entry]


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessKey:
    """One key: secrets and permissions."""

    grant: Grant
    expires_seconds: float | None  # since the epoch; None: never
    secret: str = field(repr=False)  # "" where it does not sign
    session_token: str | None = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Keys:
    """All keys of a file."""

    signing: Mapping[str, AccessKey]  # by access key id
    bearing: Mapping[bytes, AccessKey] = field(repr=False)  # by the API key's SHA-256


class KeyFile:
    """The keys of a file, as it is now.

    Args:
        path: of the file.
        clock: in seconds, monotonic.

    Raises:
        ConfigError: it can't be read, or is wrong; the message names the entry and the field.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._watch = Watch([path], clock)  # before reading: what changes meanwhile is seen later
        self._keys = read_keys(path)

    def keys(self) -> Keys:
        """Those of the newest file that was in order."""
        if self._watch.changed():
            try:
                self._keys = read_keys(self._path)
            except ConfigError as error:
                structlog.get_logger().error(logs.RELOAD_FAILED, reason=str(error))
            else:
                structlog.get_logger().info(logs.RELOADED, file=self._path)
        return self._keys


def read_keys(path: str) -> Keys:
    """Reads a file. Raises ConfigError."""
    try:
        entries = msgspec.convert(tomllib.loads(Path(path).read_text("utf-8-sig")), type=_File).keys
    except OSError as error:
        raise ConfigError(f"access_keys: cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"access_keys: {path} is not as it should be: {error}") from None
    signing: dict[str, AccessKey] = {}
    bearing: dict[bytes, AccessKey] = {}
    for entry in entries:
        try:
            _add(entry, signing, bearing)
        except ValueError as error:
            raise ConfigError(f"access_keys: {path}: key {entry.name!r}: {error}") from None
    return Keys(signing=signing, bearing=bearing)


def _add(entry: _Entry, signing: dict[str, AccessKey], bearing: dict[bytes, AccessKey]) -> None:
    if bool(entry.access_key_id) != bool(entry.secret_access_key):
        raise ValueError("access_key_id and secret_access_key belong together")
    key, digest = _access_key(entry), _digest(entry)
    if not entry.access_key_id and digest is None:
        raise ValueError("needs an access_key_id with its secret, or an api_key, or both")
    if entry.access_key_id:
        if signing.setdefault(entry.access_key_id, key) is not key:
            raise ValueError("its access_key_id is another key's, too")
    elif entry.session_token is not None:
        raise ValueError("session_token goes with an access_key_id")
    if digest is not None and bearing.setdefault(digest, key) is not key:
        raise ValueError("its api_key is another key's, too")


def _access_key(entry: _Entry) -> AccessKey:
    if not set(entry.actions) <= set(_ACTIONS):
        raise ValueError(f"actions must be of {', '.join(_ACTIONS)}")
    if not re.fullmatch(r"[\w+=,.@-]{1,64}", entry.name, re.ASCII):
        raise ValueError("name must be 1 to 64 letters, digits and +=,.@_-")
    return AccessKey(
        grant=Grant(
            name=entry.name,
            actions=frozenset(map(Action, entry.actions)),
            endpoints=Patterns(entry.endpoints),
            models=Patterns(entry.models),
            containers=Patterns(entry.containers),
        ),
        expires_seconds=_seconds(entry.expires),
        secret=entry.secret_access_key or "",
        session_token=entry.session_token,
    )


def _seconds(moment: datetime | None) -> float | None:
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _digest(entry: _Entry) -> bytes | None:
    if entry.api_key is not None and entry.api_key_sha256 is not None:
        raise ValueError("api_key and api_key_sha256 are the same thing: one will do")
    if entry.api_key is not None:
        if not re.fullmatch(r"[\x21-\x7e]{16,}", entry.api_key):
            raise ValueError("api_key must be 16 printable ASCII characters or more, no blanks")
        return hashlib.sha256(entry.api_key.encode()).digest()
    if entry.api_key_sha256 is not None:
        if not _DIGEST.fullmatch(entry.api_key_sha256):
            raise ValueError("api_key_sha256 must be 64 hexadecimal digits, in lower case")
        return bytes.fromhex(entry.api_key_sha256)
    return None

"""Pure: a sorted list of names, a page at a time.

Decision: a token names the last one shown, so that what comes and goes between two pages neither
hides nor repeats the others, as offsets would.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping

from mme.errors import InvalidRequest

_LIMIT = 100


def read_page(names: Iterable[str], query: Mapping[str, str]) -> tuple[list[str], str | None]:
    """The page that `limit` and `next_page_token` ask for, and the token of the next one.

    Raises:
        InvalidRequest: a limit that is not from 1 to 100, or a token that was not given out.
    """
    limit = query.get("limit", str(_LIMIT))
    if not re.fullmatch(r"[0-9]{1,3}", limit) or not 1 <= int(limit) <= _LIMIT:
        raise InvalidRequest(f"limit must be a whole number from 1 to {_LIMIT}.")
    after = _name(query["next_page_token"]) if "next_page_token" in query else ""
    left = sorted(name for name in names if name > after)
    page = left[: int(limit)]
    return page, _token(page[-1]) if len(left) > len(page) else None


def _token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode("utf-8", "surrogatepass")).decode().rstrip("=")


def _name(token: str) -> str:
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        return data.decode("utf-8", "surrogatepass")
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("next_page_token is not one that was given out.") from error

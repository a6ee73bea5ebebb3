"""The console's own files: a page, its styles and scripts, read once and served as they are.

Decision: no build step and nothing from elsewhere: what is in the package is what a browser runs.
The page may load from this server alone and run no inline script, so that a model's name that
slipped into it as markup would still do nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePosixPath

from mme.front.wire import REQUEST_ID, Answer

PAGE = "index.html"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PageFile:
    """One file, ready to be sent."""

    body: bytes
    tag: str
    headers: Mapping[str, str]

    def answer(self, request_id: str, known_tag: str | None) -> Answer:
        """The file; 304 to who has it already."""
        headers = {REQUEST_ID: request_id, **self.headers}
        if known_tag == self.tag:
            return Answer(status=304, headers=headers)
        return Answer(status=200, body=self.body, headers=headers)


def read_files() -> dict[str, PageFile]:
    """All of them, by their path below the console's directory."""
    top = files("mme.front") / "console"
    found = {entry.name: entry for entry in top.iterdir() if entry.is_file()}
    vendored = {f"vendor/{entry.name}": entry for entry in (top / "vendor").iterdir()}
    return {
        name: _page_file(name, entry.read_bytes()) for name, entry in {**found, **vendored}.items()
    }


def _page_file(name: str, body: bytes) -> PageFile:
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {
        "Content-Type": _TYPES[PurePosixPath(name).suffix],
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
        "ETag": tag,
    }
    return PageFile(body=body, tag=tag, headers=headers)

"""A server that asks nobody who they are, and pages of other sites that its user visits."""

from __future__ import annotations

import pytest

from tests.rooms.front_double import FakeService, connected, serving
from tests.rooms.test_access import asked, guarded

HERE, ELSEWHERE = "127.0.0.1:8080", "evil.example"


def said(**headers: str) -> dict[str, str]:
    return {"host": HERE, **headers}


@pytest.mark.parametrize(
    "headers",
    [
        said(),
        said(sec_fetch_site="same-origin", origin=f"http://{HERE}"),
        said(sec_fetch_site="none"),
        said(origin=f"http://{HERE}"),
        said(sec_fetch_site="same-origin", origin="https://a.proxy.that.changes.hosts"),
        *(
            {"host": host}
            for host in (
                "localhost",
                "LOCALHOST:1",
                "mme.localhost:80",
                "[::1]:1",
                "10.0.0.7",
                "mme",
            )
        ),
    ],
)
async def test_programs_and_pages_of_its_own_are_answered(headers):
    assert await answered(headers) == (200, 200)


@pytest.mark.parametrize(
    "headers",
    [
        said(sec_fetch_site="cross-site", origin=f"http://{ELSEWHERE}"),
        said(sec_fetch_site="same-site", origin="http://127.0.0.1:9000"),
        said(sec_fetch_site="cross-site"),
        said(sec_fetch_site="cross-site", origin=f"http://{HERE}"),
        said(origin=f"http://{ELSEWHERE}"),
        said(origin="http://127.0.0.1:9000"),
        said(origin="null"),
        said(origin=""),
        # a name of theirs that leads here now
        {"host": ELSEWHERE},
        {"host": f"{ELSEWHERE}:8080", "origin": f"http://{ELSEWHERE}:8080"},
        {"host": "localhost.evil.example"},
        {"host": "127.0.0.1.evil.example:8080"},
        {"host": "evil."},
        {"host": "[evil.example]:8080"},
    ],
)
async def test_pages_of_other_sites_are_refused(headers):
    assert await answered(headers) == (403, 403)


async def answered(headers: dict[str, str]) -> tuple[int, int]:
    """The statuses of what does something and of what tells something."""
    async with serving(FakeService()) as front:
        post = await raw(front, "POST", "/invocations", headers)
        assert await raw(front, "GET", "/livez", headers) == 200
        return post, await raw(front, "GET", "/state", headers)


async def raw(front, method, path, headers):
    lines = [f"{method} {path} HTTP/1.1", "Content-Length: 0"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    async with connected(front) as wire:
        wire.send("\r\n".join([*lines, "", ""]).encode())
        return (await wire.response()).status


async def test_a_link_that_was_clicked_may_be_followed_and_no_more():
    clicked = said(sec_fetch_site="cross-site", sec_fetch_mode="navigate", sec_fetch_user="?1")
    assert await answered(clicked) == (403, 200)


async def test_a_server_behind_what_asks_who_calls_may_have_any_name():
    async with serving(FakeService(), no_auth=True) as front:
        named = {"host": "mme.example", "origin": "https://mme.example"}
        assert await raw(front, "POST", "/invocations", named) == 200
        named["origin"] = "https://other.example"
        assert await raw(front, "POST", "/invocations", named) == 403


async def test_with_keys_names_and_origins_are_nobodys_business(tmp_path):
    async with guarded(tmp_path) as front:
        headers = {"origin": "https://app.example", "x_api_key": "the-api-key-of-operators"}
        assert (await asked(front, "POST", "/invocations", b"x", **headers))[0] == 200

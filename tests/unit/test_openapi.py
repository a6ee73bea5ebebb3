"""The document is a valid one, and says of every route what it is, and of nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from openapi_spec_validator import validate

from mme.config import ServerConfig
from mme.front.dialects import Management, open_dialects
from mme.front.openapi import describe
from mme.front.openapi_operations import OPERATIONS


class Unasked:
    """Stands where routes are only made and nobody asks them."""

    def __getattr__(self, name: str) -> object:
        return name


NOTHING = Unasked()
UNSAID = {"oip_unknown", "console_file"}
MODES = {
    "ordinary": Management(operated=NOTHING, watched=NOTHING, usage=NOTHING),
    "several": Management(operated=NOTHING, is_alone=False),
    "hosted": Management(hosted=NOTHING),
    "single": Management(single=NOTHING),
}


def routes_of(management: Management):
    return open_dialects(NOTHING, list, ServerConfig(), management)[1]


@pytest.mark.parametrize("mode", MODES)
def test_the_document_of_every_mode_is_valid_openapi(mode):
    routes = routes_of(MODES[mode])
    document = describe(routes, "1.0")
    validate(document)
    told = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    assert ("GET", "/openapi.json") in told
    said = {(route.method, route.path) for route in routes if route.name not in UNSAID}
    assert len(told) == len(said)


def test_something_is_said_of_every_route_and_of_no_other():
    names = {route.name for management in MODES.values() for route in routes_of(management)}
    assert names - UNSAID == set(OPERATIONS)


def test_a_route_that_nobody_described_is_noticed():
    route = replace(routes_of(MODES["ordinary"])[0], name="new")
    with pytest.raises(KeyError, match="new"):
        describe([route], "1.0")

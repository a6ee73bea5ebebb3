"""What fails shows clients no path, no traceback and no version, whichever dialect they speak."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path

import pytest

from mme import errors
from mme.config import ServerConfig
from mme.front.dialects import Management
from mme.front.server import Front
from mme.metrics import Metrics
from tests.engines import ask, drop, running_engine
from tests.models import booster
from tests.rooms.front_double import NAME, FakeService, connected
from tests.rooms.test_access import Operated

CAUSE = "/srv/cache/3f9a/model.json"
OURS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.MmeError)
]
FOREIGN = [
    OSError(2, "No such file", CAUSE),
    KeyError(CAUSE),
    RuntimeError(CAUSE),
    ImportError(CAUSE),
]
HEADERS = {
    *("server", "content-length", "date", "connection", "content-type", "retry-after"),
    *("x-amzn-requestid", "x-amzn-errortype", "www-authenticate"),
}


def made(kind):
    """One of that kind, whatever it is made of."""
    wanted = (
        [] if kind.__init__ is Exception.__init__ else inspect.signature(kind).parameters.values()
    )
    numbers = {"limit_bytes", "size_bytes", "retry_after_seconds", "original_status"}
    given = [
        400 if item.name in numbers else "words"
        for item in wanted
        if item.default is item.empty and item.kind is item.POSITIONAL_OR_KEYWORD
    ]
    return kind(*given or ["words"])


class Failing(Operated):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def describe(self, key):
        raise self.error


async def answers(error):
    """What each dialect says of it: the runtime API, OIP, the models API."""

    def respond(_):
        raise error

    config = ServerConfig(port=0, endpoint_name=NAME)
    management = Management(operated=Failing(error))
    front = Front(FakeService(respond), config, Metrics(NAME, "AllTraffic"), management)
    await front.start()
    try:
        for method, path in (
            ("POST", "/invocations"),
            ("POST", "/v2/models/m/infer"),
            ("GET", "/models/m"),
        ):
            async with connected(front) as wire:
                wire.send(
                    f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode()
                )
                yield await wire.response()
    finally:
        await front.close()


@pytest.mark.parametrize(
    "error", [*map(made, OURS), *FOREIGN], ids=lambda error: type(error).__name__
)
async def test_no_error_shows_a_path_a_traceback_or_a_version(error):
    error.__cause__ = OSError(2, "No such file", CAUSE)
    told = [answer async for answer in answers(error)]
    assert len(told) == 3
    for answer in told:
        assert answer.status >= 400
        assert set(answer.headers) <= HEADERS
        assert answer.headers["server"] == "mme"
        for secret in (b"/srv", b"3f9a", b"Traceback", b".py", b"line "):
            assert secret not in answer.body
        assert isinstance(json.loads(answer.body), dict)


SCRIPTS = {
    "loading": b"def model_fn(d):\n    return open(d + '/missing.bin')\n",
    "asked": b"def model_fn(d):\n    return d\n"
    b"def predict_fn(data, model):\n    open(model + '/missing.bin')\n",
    "library": b"import json\n"
    b"def model_fn(d):\n    raise OSError(json.__file__ + ' ' + d + '/missing.bin')\n",
}


@pytest.mark.timeout(60)
async def test_a_models_own_error_shows_what_it_says_and_no_directory_of_ours(tmp_path):
    for name, script in SCRIPTS.items():
        drop(tmp_path / "models", name, {**booster(1).members, "code/inference.py": script})
    async with running_engine(tmp_path) as engine:
        for name in SCRIPTS:
            with pytest.raises(errors.ModelError, match=r"missing\.bin") as said:
                await ask(engine, name)
            for ours in (tmp_path, "/models/", Path(os.__file__).parent):
                assert str(ours) not in str(said.value)

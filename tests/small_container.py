"""A container as a team writes one: `python -m tests.small_container prepare|explain`.

`prepare` turns a customer's JSON into the model's csv, `explain` the model's csv into JSON.
"""

from __future__ import annotations

import json
import os
import sys

from aiohttp import web

THRESHOLD = 1.5


def prepare(body: bytes) -> tuple[bytes, str]:
    """Percentages to shares."""
    row = [number / 100 for number in json.loads(body)["percent"]]
    return ",".join(map(repr, row)).encode(), "text/csv; charset=utf-8"


def explain(body: bytes) -> tuple[bytes, str]:
    """A score to a word for it."""
    score = float(body)
    return json.dumps({"score": score, "word": word(score)}).encode(), "application/json"


def word(score: float) -> str:
    return "high" if score > THRESHOLD else "low"


WORK = {"prepare": prepare, "explain": explain}


async def invocations(request: web.Request) -> web.Response:
    try:
        body, content_type = request.app[ROLE](await request.read())
    except (KeyError, ValueError) as error:
        return web.Response(status=400, text=f"{request.app[ROLE].__name__}: {error!r}")
    headers = {"Content-Type": content_type, "X-Amzn-SageMaker-Custom-Attributes": "seen=yes"}
    return web.Response(body=body, headers=headers)


async def ping(_request: web.Request) -> web.Response:
    return web.Response()


ROLE = web.AppKey("role", object)

if __name__ == "__main__":
    app = web.Application()
    app[ROLE] = WORK[sys.argv[1]]
    app.add_routes([web.get("/ping", ping), web.post("/invocations", invocations)])
    web.run_app(app, host="127.0.0.1", port=int(os.environ["SAGEMAKER_BIND_TO_PORT"]), print=None)

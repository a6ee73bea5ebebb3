"""aiohttp with the models in its process: the least there can be, and no isolation at all."""

from __future__ import annotations

from functools import partial

from load_tests.peers.base import Peer, PeerModel, Site, Start
from load_tests.plan import Question

_SERVER = """
import os, sys
import numpy, uvloop
from aiohttp import web
from model_code import Resident

port, directory, room, loaded, processes = sys.argv[1:]
for _ in range(int(processes) - 1):
    if not os.fork():
        break
models = Resident(directory, int(room), int(loaded))

async def predict(request):
    row = numpy.array([(await request.text()).split(",")], dtype=numpy.float32)
    answer = models.get(request.match_info["name"])(row)[0]
    return web.Response(text=",".join(map(repr, map(float, answer))), content_type="text/csv")

app = web.Application()
app.add_routes([web.post("/models/{name}", predict), web.get("/ping", lambda _: web.Response())])
uvloop.install()
quiet = {"print": None, "access_log": None}
web.run_app(app, host="127.0.0.1", port=int(port), reuse_port=True, **quiet)
"""


def _prepare(site: Site, *, processes: int) -> Start:
    server = site.directory / "server.py"
    server.write_text(_SERVER)
    arguments = map(str, (site.port, site.link_models(), site.room, site.loaded, processes))
    return Start(
        command=[site.python, "-W", "ignore", server, *arguments],
        port=site.port,
        ready_path="/ping",
        environment={"OMP_NUM_THREADS": "1"},
    )


def _question(model: PeerModel) -> Question:
    return Question(
        target="", body=model.csv, expected=model.expected, path=f"/models/{model.name}"
    )


ONE = Peer(
    name="aiohttp, in process",
    requirements=(),
    prepare=partial(_prepare, processes=1),
    question=_question,
    evicts=True,
)
TWO = Peer(
    name="the same, 2 processes",
    requirements=(),
    prepare=partial(_prepare, processes=2),
    question=_question,
    evicts=True,
)

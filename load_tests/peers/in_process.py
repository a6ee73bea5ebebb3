"""aiohttp with the models in its process: the least there can be, and no isolation at all."""

from __future__ import annotations

from load_tests.peers.base import Peer, PeerModel, Site, Start
from load_tests.plan import Question

_SERVER = """
import sys
from pathlib import Path
import numpy, uvloop, xgboost
from aiohttp import web

models = {}
for path in Path(sys.argv[2]).iterdir():
    models[path.stem] = booster = xgboost.Booster()
    booster.load_model(path)
    booster.set_param({"nthread": 1})

async def predict(request):
    row = numpy.array([(await request.text()).split(",")], dtype=numpy.float32)
    answer = models[request.match_info["name"]].inplace_predict(row)
    return web.Response(text=",".join(map(repr, map(float, answer))), content_type="text/csv")

app = web.Application()
app.add_routes([web.post("/models/{name}", predict), web.get("/ping", lambda _: web.Response())])
uvloop.install()
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
"""


def _prepare(site: Site) -> Start:
    server = site.directory / "server.py"
    server.write_text(_SERVER)
    models = site.directory / "models"
    models.mkdir()
    for model in site.models:
        (models / f"{model.name}.ubj").symlink_to(model.path)
    return Start(
        command=[site.python, server, str(site.port), models],
        port=site.port,
        ready_path="/ping",
        environment={"OMP_NUM_THREADS": "1"},
    )


def _question(model: PeerModel) -> Question:
    return Question(
        target="", body=model.csv, expected=model.expected, path=f"/models/{model.name}"
    )


PEER = Peer(
    name="aiohttp, in process",
    requirements=("aiohttp", "uvloop", "numpy", "xgboost-cpu"),
    prepare=_prepare,
    question=_question,
)

"""Ray Serve with its model multiplexing: models in a replica, the least recently used leaves."""

from __future__ import annotations

import json

from load_tests.peers.base import JSON, Peer, PeerModel, Site, Start
from load_tests.plan import Question

_SERVER = """
import json, sys, time
from pathlib import Path
import numpy, ray
from ray import serve
from model_code import load
from starlette.responses import Response

PATHS = {path.stem: path for path in Path(sys.argv[2]).iterdir()}

@serve.deployment(max_ongoing_requests=100, ray_actor_options={"num_cpus": 1})
class Models:
    @serve.multiplexed(max_num_models_per_replica=int(sys.argv[3]))
    async def load(self, name):
        return load(PATHS[name])

    async def __call__(self, request):
        predict = await self.load(serve.get_multiplexed_model_id())
        row = numpy.array([(await request.json())["row"]], dtype=numpy.float32)
        told = json.dumps({"data": predict(row).ravel().tolist()}).encode()
        return Response(told, headers={"content-length": str(len(told))})

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
serve.run(Models.bind())
while True:
    time.sleep(60)
"""


def _prepare(site: Site) -> Start:
    server = site.directory / "server.py"
    server.write_text(_SERVER)
    return Start(
        command=[site.python, server, str(site.port), site.link_models(), str(site.room)],
        port=site.port,
        ready_path="/-/healthz",
        environment={"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"},
    )


def _question(model: PeerModel) -> Question:
    return Question(
        target="",
        body=json.dumps({"row": model.row}),
        expected=model.expected,
        path="/",
        headers={**JSON, "serve_multiplexed_model_id": model.name},
        numbers=r'"data":\s*\[([^\]]*)\]',
    )


PEER = Peer(
    name="Ray Serve, multiplexed",
    requirements=("ray[serve]>=2.50,<3", "xgboost-cpu", "torch==2.13.0"),
    prepare=_prepare,
    question=_question,
    evicts=True,
)

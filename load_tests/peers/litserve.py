"""LitServe: one model class, its models in every worker."""

from __future__ import annotations

import json

from load_tests.peers.base import JSON, Peer, PeerModel, Site, Start
from load_tests.plan import Question

_SERVER = """
import sys
from pathlib import Path
import litserve, numpy, xgboost

class Boosters(litserve.LitAPI):
    def setup(self, device):
        self.models = {}
        for path in Path(sys.argv[2]).iterdir():
            self.models[path.stem] = booster = xgboost.Booster()
            booster.load_model(path)
            booster.set_param({"nthread": 1})

    def decode_request(self, request):
        return request["model"], numpy.array([request["row"]], dtype=numpy.float32)

    def predict(self, asked):
        name, row = asked
        return self.models[name].inplace_predict(row)

    def encode_response(self, answer):
        return {"data": answer.tolist()}

if __name__ == "__main__":
    server = litserve.LitServer(Boosters(), accelerator="cpu", workers_per_device=2)
    quiet = {"generate_client_file": False, "log_level": "warning"}
    server.run(host="127.0.0.1", port=int(sys.argv[1]), **quiet)
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
        ready_path="/health",
        environment={"OMP_NUM_THREADS": "1"},
    )


def _question(model: PeerModel) -> Question:
    return Question(
        target="",
        body=json.dumps({"model": model.name, "row": model.row}),
        expected=model.expected,
        path="/predict",
        headers=JSON,
        numbers=r'"data":\s*\[([^\]]*)\]',
    )


PEER = Peer(
    name="LitServe",
    requirements=("litserve>=0.2.19,<0.3", "xgboost-cpu"),
    prepare=_prepare,
    question=_question,
)

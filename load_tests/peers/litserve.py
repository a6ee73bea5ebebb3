"""LitServe: one model class, its models in every worker."""

from __future__ import annotations

import json

from load_tests.peers.base import JSON, Peer, PeerModel, Site, Start
from load_tests.plan import Question

_SERVER = """
import sys
import litserve, numpy
from model_code import Resident

class Models(litserve.LitAPI):
    def setup(self, device):
        self.models = Resident(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))

    def decode_request(self, request):
        return request["model"], numpy.array([request["row"]], dtype=numpy.float32)

    def predict(self, asked):
        name, row = asked
        return self.models.get(name)(row)

    def encode_response(self, answer):
        return {"data": answer.ravel().tolist()}

if __name__ == "__main__":
    server = litserve.LitServer(Models(), accelerator="cpu", workers_per_device=2)
    quiet = {"generate_client_file": False, "log_level": "warning"}
    server.run(host="127.0.0.1", port=int(sys.argv[1]), **quiet)
"""


def _prepare(site: Site) -> Start:
    server = site.directory / "server.py"
    server.write_text(_SERVER)
    numbers = map(str, (site.room, site.loaded))
    return Start(
        command=[site.python, server, str(site.port), site.link_models(), *numbers],
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
    requirements=("litserve>=0.2.19,<0.3", "xgboost-cpu", "torch==2.13.0"),
    prepare=_prepare,
    question=_question,
    evicts=True,
)

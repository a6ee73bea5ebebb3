"""MLServer, with a runtime of its own kind for the model file as it is."""

from __future__ import annotations

import json

from load_tests.peers.base import JSON, Peer, PeerModel, Site, Start
from load_tests.plan import Question

_RUNTIME = """
from pathlib import Path
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, NumpyRequestCodec
from mlserver.types import InferenceResponse
from mlserver.utils import get_model_uri
from model_code import load

class Model(MLModel):
    async def load(self):
        self.ask = load(Path(await get_model_uri(self._settings)))
        return True

    async def predict(self, payload):
        rows = self.decode_request(payload, default_codec=NumpyRequestCodec)
        output = NumpyCodec.encode_output("output", self.ask(rows))
        return InferenceResponse(model_name=self.name, outputs=[output])
"""


def _prepare(site: Site) -> Start:
    root = site.directory
    (root / "runtime.py").write_text(_RUNTIME)
    settings = {
        "host": "127.0.0.1",
        "http_port": site.port,
        "grpc_port": site.port + 1,
        "metrics_port": site.port + 2,
        "parallel_workers": 2,
        "debug": False,
        "load_models_at_startup": False,
    }
    (root / "settings.json").write_text(json.dumps(settings))
    for model in site.models:
        directory = root / model.name
        directory.mkdir()
        told = {
            "name": model.name,
            "implementation": "runtime.Model",
            "parameters": {"uri": str(model.path)},
        }
        (directory / "model-settings.json").write_text(json.dumps(told))
    return Start(
        command=[site.bin / "mlserver", "start", root],
        port=site.port,
        ready_path="/v2/health/ready",
        environment={"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        loads={
            model.name: ("POST", f"/v2/repository/models/{model.name}/load")
            for model in site.models
        },
    )


def _question(model: PeerModel) -> Question:
    shape = [1, len(model.row)]
    tensor = {"name": "input", "shape": shape, "datatype": "FP32", "data": list(model.row)}
    return Question(
        target="",
        body=json.dumps({"inputs": [tensor]}),
        expected=model.expected,
        path=f"/v2/models/{model.name}/infer",
        headers=JSON,
        numbers=r'"data":\s*\[([^\]]*)\]',
    )


PEER = Peer(
    name="MLServer",
    requirements=("mlserver==1.7.1", "uvloop<0.22", "xgboost-cpu", "torch==2.13.0"),
    prepare=_prepare,
    question=_question,
)

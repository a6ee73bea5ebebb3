"""multi-model-server and TorchServe: a Java front, Python processes of each model's own.

Decisions: a worker a logical processor for each model, as both have by default; it is said in the
call that registers a model, which would begin none of its own accord. Logs are asynchronous, as
both projects' documentation has it for throughput.
"""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from pathlib import Path

from load_tests.peers.base import CODE, Peer, PeerModel, Site, Start
from load_tests.plan import Question

_REQUIREMENTS = (  # one environment for both
    "multi-model-server>=1.1.11,<2",
    "torchserve>=0.12,<0.13",
    "torch==2.13.0",
    "xgboost-cpu",
    "setuptools<81",
    "pyyaml",
)
_PROPERTIES = """
vmargs=-Xmx1g
model_store=/
inference_address=http://127.0.0.1:{port}
management_address=http://127.0.0.1:{port}
job_queue_size=1000
async_logging=true
"""
_TORCHSERVE = """
enable_model_api=true
disable_token_authorization=true
enable_metrics_api=false
disable_system_metrics=true
"""
_LOADED = """
from pathlib import Path
import numpy
from model_code import load as load_file

def load(context):
    [path] = Path(context.system_properties["model_dir"]).glob("weights.*")
    return load_file(path)

def predict(model, data):
    bodies = [each.get("body") or each.get("data") for each in data]
    texts = [body if isinstance(body, str) else bytes(body).decode() for body in bodies]
    rows = numpy.array([text.split(",") for text in texts], dtype=numpy.float32)
    return [",".join(map(repr, map(float, answer))) for answer in model(rows)]
"""
_MMS_SERVICE = (
    _LOADED
    + """
model = None

def handle(data, context):
    global model
    if model is None:
        model = load(context)
    return predict(model, data) if data else None
"""
)
_TORCH_HANDLER = (
    _LOADED
    + """
class Handler:
    def initialize(self, context):
        self.model = load(context)

    def handle(self, data, context):
        return predict(self.model, data)
"""
)


def _prepare(site: Site, *, is_torchserve: bool) -> Start:
    store = site.directory / "store"
    for model in site.models:
        _archive(store / model.name, model, is_torchserve=is_torchserve)
    properties = site.directory / "config.properties"
    text = _PROPERTIES.format(port=site.port)
    properties.write_text(text + _TORCHSERVE if is_torchserve else text)
    option = "--ts-config" if is_torchserve else "--mms-config"
    program = "torchserve" if is_torchserve else "multi-model-server"
    logs = site.directory / "logs"
    logs.mkdir()
    workers = f"initial_workers={os.cpu_count()}&synchronous=true"
    return Start(
        command=[site.bin / program, "--start", "--foreground", option, properties],
        port=site.port,
        ready_path="/ping",
        environment={
            "LOG_LOCATION": str(logs),
            "METRICS_LOCATION": str(logs),
            "TEMP": str(site.directory),
            "TMPDIR": str(site.directory),
            "OMP_NUM_THREADS": "1",
        },
        loads={
            model.name: (
                "POST",
                f"/models?url={store / model.name}&model_name={model.name}&{workers}",
            )
            for model in site.models
        },
    )


def _archive(directory: Path, model: PeerModel, *, is_torchserve: bool) -> None:
    (directory / "MAR-INF").mkdir(parents=True)
    entry = {"modelName": model.name, "modelVersion": "1.0"}
    entry["handler"] = "service.py" if is_torchserve else "service:handle"
    manifest = {"runtime": "python", "model": entry, "archiverVersion": "0.12.0"}
    (directory / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    (directory / "service.py").write_text(_TORCH_HANDLER if is_torchserve else _MMS_SERVICE)
    shutil.copy(CODE, directory)
    shutil.copy(model.path, directory / f"weights{model.path.suffix}")


def _question(model: PeerModel) -> Question:
    return Question(
        target="",
        body=model.csv,
        expected=model.expected,
        path=f"/predictions/{model.name}",
        headers={"Content-Type": "text/csv"},
    )


MMS = Peer(
    name="multi-model-server",
    requirements=_REQUIREMENTS,
    prepare=partial(_prepare, is_torchserve=False),
    question=_question,
    needs="java",
)
TORCHSERVE = Peer(
    name="TorchServe",
    requirements=_REQUIREMENTS,
    prepare=partial(_prepare, is_torchserve=True),
    question=_question,
    needs="java",
)

"""Triton with its python backend, the one that its wheel brings: a process a model.

Decision: two of them, for its dynamic batching makes more than twice of it and is off by default.
"""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

from load_tests.peers.base import JSON, Peer, PeerModel, Site, Start
from load_tests.plan import Question

_CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: 64
input [{{ name: "input" data_type: TYPE_FP32 dims: [ {width} ] }}]
output [{{ name: "output" data_type: TYPE_FP32 dims: [ {answers} ] }}]
instance_group [{{ kind: KIND_CPU count: 1 }}]
"""
_BATCHING = "dynamic_batching { }\n"
_MODEL = """
from pathlib import Path
import numpy
from model_code import load
import triton_python_backend_utils as backend

class TritonPythonModel:
    def initialize(self, args):
        [path] = Path(args["model_repository"], args["model_version"]).glob("weights.*")
        self.predict = load(path)

    def execute(self, requests):
        rows = [backend.get_input_tensor_by_name(each, "input").as_numpy() for each in requests]
        answers = self.predict(numpy.concatenate(rows))
        responses, start = [], 0
        for row in rows:
            part = answers[start : start + len(row)]
            start += len(row)
            responses.append(backend.InferenceResponse([backend.Tensor("output", part)]))
        return responses
"""


def _prepare(site: Site, *, is_batching: bool) -> Start:
    repository = site.directory / "models"
    for model in site.models:
        version = repository / model.name / "1"
        version.mkdir(parents=True)
        config = _CONFIG.format(name=model.name, width=len(model.row), answers=len(model.expected))
        config += _BATCHING if is_batching else ""
        (repository / model.name / "config.pbtxt").write_text(config)
        (version / "model.py").write_text(_MODEL)
        (version / f"weights{model.path.suffix}").symlink_to(model.path)
    packages = next(site.bin.parent.glob("lib/python3.*/site-packages"))
    server = packages / "pytriton" / "tritonserver"
    return Start(
        command=[
            _executable(server / "bin" / "tritonserver", site.directory),
            f"--model-repository={repository}",
            f"--backend-directory={_backends(server, site)}",
            f"--http-port={site.port}",
            "--http-address=127.0.0.1",
            "--http-thread-count=2",
            "--allow-grpc=false",
            "--allow-metrics=false",
            "--model-control-mode=explicit",
            *(f"--load-model={model.name}" for model in site.models[: site.loaded]),
        ],
        port=site.port,
        ready_path="/v2/health/ready",
        environment={
            "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
            "PYTHONPATH": f"{packages}:{site.directory}",
            "OMP_NUM_THREADS": "1",
        },
        loads={
            model.name: ("POST", f"/v2/repository/models/{model.name}/load")
            for model in site.models[site.loaded :]
        },
    )


def _backends(server: Path, site: Site) -> Path:
    """A backend directory with our Python's stub, which has to stand beside its library."""
    backends = site.directory / "backends"
    shutil.copytree(server / "backends", backends)
    version = next(site.bin.parent.glob("lib/python3.*")).name.removeprefix("python")
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    target = backends / "python" / stub.name
    shutil.copy(stub, target)
    target.chmod(0o755)
    return backends


def _executable(program: Path, directory: Path) -> Path:
    copy = directory / program.name
    shutil.copy(program, copy)
    copy.chmod(0o755)
    return copy


def _question(model: PeerModel) -> Question:
    shape = [1, len(model.row)]
    tensor = {"name": "input", "shape": shape, "datatype": "FP32", "data": [list(model.row)]}
    return Question(
        target="",
        body=json.dumps({"inputs": [tensor]}),
        expected=model.expected,
        path=f"/v2/models/{model.name}/infer",
        headers=JSON,
        numbers=r'"data":\s*\[([^\]]*)\]',
    )


_REQUIREMENTS = ("nvidia-pytriton>=0.7,<0.8", "xgboost-cpu", "torch==2.13.0")
BATCHING = Peer(
    name="Triton, dynamic batching",
    requirements=_REQUIREMENTS,
    prepare=partial(_prepare, is_batching=True),
    question=_question,
)
DEFAULT = Peer(
    name="Triton, as by default",
    requirements=_REQUIREMENTS,
    prepare=partial(_prepare, is_batching=False),
    question=_question,
)

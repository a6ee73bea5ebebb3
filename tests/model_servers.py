"""multi-model-server and TorchServe as multi-model siblings: their tables, and models of theirs.

Both are Java programs that start a Python process a model. Each gets a temporary directory of its
own, where it keeps its sockets and the file by which it sees that it runs already.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import torch

# Told by the environment: where to listen. Bounded: memory and threads.
_MMS = """
vmargs=-Xmx256m -XX:-UseContainerSupport
model_store=/
inference_address=http://127.0.0.1:$$SAGEMAKER_BIND_TO_PORT$$
management_address=http://127.0.0.1:$$SAGEMAKER_BIND_TO_PORT$$
default_workers_per_model=1
number_of_netty_threads=2
netty_client_threads=1
"""
_TORCHSERVE = """
vmargs=-Xmx256m
model_store={directory}
inference_address=http://127.0.0.1:$$SAGEMAKER_BIND_TO_PORT$$
management_address=http://127.0.0.1:$$SAGEMAKER_BIND_TO_PORT$$
enable_model_api=true
disable_token_authorization=true
enable_metrics_api=false
disable_system_metrics=true
default_workers_per_model=1
number_of_netty_threads=2
netty_client_threads=1
"""
_TABLE = """
[[containers]]
hostname = "{hostname}"
command = {command}
target_models = "{models}"
loaded_models = 2
[containers.environment]
TMPDIR = "{directory}"
TEMP = "{directory}"
LOG_LOCATION = "{directory}"
METRICS_LOCATION = "{directory}"
"""
_MMS_SERVICE = """
import json

def handle(data, context):
    if not data:
        return None
    with open(context.system_properties["model_dir"] + "/weights.json") as file:
        weights = json.load(file)
    return [{"sum": sum(w * x for w, x in zip(weights, item["body"]))} for item in data]
"""
_TORCH_HANDLER = """
import os
import torch

class Handler:
    def initialize(self, context):
        directory = context.system_properties["model_dir"]
        self.model = torch.nn.Linear(3, 1)
        self.model.load_state_dict(torch.load(os.path.join(directory, "model.pt")))

    def handle(self, data, context):
        with torch.no_grad():
            rows = [torch.tensor(item["body"], dtype=torch.float32) for item in data]
            return [self.model(row).tolist() for row in rows]
"""


def mms_table(root: Path, models: Path) -> str:
    """The `[[containers]]` table of a multi-model-server named mms."""
    return _table("mms", "mms.model_server", "--mms-config", _MMS, root, models)


def torchserve_table(root: Path, models: Path) -> str:
    """The `[[containers]]` table of a TorchServe named torchserve."""
    return _table("torchserve", "ts.model_server", "--ts-config", _TORCHSERVE, root, models)


def mms_model(weights: list[float]) -> dict[str, bytes]:
    """An archive as model-archiver makes it, unpacked: answers a JSON row's weighted sum."""
    manifest = {"runtime": "python", "model": {"modelName": "m", "handler": "service:handle"}}
    return {
        "MAR-INF/MANIFEST.json": json.dumps(manifest).encode(),
        "service.py": _MMS_SERVICE.encode(),
        "weights.json": json.dumps(weights).encode(),
    }


def torchserve_model(layer: torch.nn.Linear) -> dict[str, bytes]:
    """An archive as torch-model-archiver makes it, unpacked: answers a JSON row of three."""
    saved = io.BytesIO()
    torch.save(layer.state_dict(), saved)
    entry = {"modelName": "m", "modelVersion": "1.0", "handler": "service.py"}
    manifest = {"runtime": "python", "model": entry, "archiverVersion": "0.12.0"}
    return {
        "MAR-INF/MANIFEST.json": json.dumps(manifest).encode(),
        "service.py": _TORCH_HANDLER.encode(),
        "model.pt": saved.getvalue(),
    }


def _table(
    hostname: str, module: str, option: str, properties: str, root: Path, models: Path
) -> str:
    directory = root / hostname
    directory.mkdir()
    path = directory / "config.properties"
    path.write_text(properties.format(directory=directory))
    command = [sys.executable, "-m", module, "--start", "--foreground", option, str(path)]
    return _TABLE.format(
        hostname=hostname, command=json.dumps(command), models=models, directory=directory
    )

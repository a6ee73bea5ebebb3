"""The SageMaker Python SDK's Predictor against the real server, with what it writes and reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xgboost

from tests.models import FEATURES, booster
from tests.servers import serving
from tests.tarballs import tarball

CLIENT = Path(__file__).parents[1] / "sagemaker_client.py"
CLIENT_SECONDS = 60  # its imports alone are three on an idle machine
MODELS = {"acme.tar.gz": booster(1), "globex/churn.tar.gz": booster(2)}


def run_client(url: str, job: dict) -> dict:
    done = subprocess.run(
        [sys.executable, CLIENT, url],
        input=json.dumps(job),
        env={**os.environ, "SAGEMAKER_SUPPRESS_V2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])  # what the SDK logs stands above


@pytest.mark.timeout(CLIENT_SECONDS + 30)
def test_predictors_get_the_same_numbers_through_every_serializer_and_deserializer(tmp_path):
    store = tmp_path / "models"
    rows = np.random.default_rng(4).random((3, FEATURES)).astype(np.float32)
    own = {}
    for name, trained in MODELS.items():
        path = store / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tarball(trained.members))
        model = xgboost.Booster(model_file=bytearray(trained.data))
        own[name] = model.predict(xgboost.DMatrix(rows)).tolist()
    with serving(tmp_path, store) as served:
        job = {"endpoint": "mme", "rows": rows.tolist(), "models": [*MODELS]}
        found = run_client(served.url, job)
    for name, answers in found["predictions"].items():
        assert len(answers) == 36
        for pair, numbers in answers.items():
            assert np.float32(numbers).tolist() == own[name], (name, pair)
    assert found["refusal"].startswith("application/octet-stream is not an accepted ContentType")

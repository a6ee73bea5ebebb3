"""What an operator sets in the server's environment decides about payloads inside the workers."""

from __future__ import annotations

import json

from tests.models import booster
from tests.servers import runtime_client, serving
from tests.tarballs import tarball


def test_the_operators_choices_about_answers_reach_the_workers(tmp_path):
    trained = booster(1)
    store = tmp_path / "models"
    store.mkdir()
    (store / "a.tar.gz").write_bytes(tarball(trained.members))
    choices = {
        "SAGEMAKER_INFERENCE_OUTPUT": "predicted_score,probability",
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "application/json",
    }
    request = {"EndpointName": "mme", "TargetModel": "a.tar.gz", "ContentType": "text/csv"}
    with (
        serving(tmp_path, store, environment=choices) as served,
        runtime_client(served.url) as client,
    ):
        answer = client.invoke_endpoint(**request, Body=b"0.1,0.2,0.3,0.4")
        selected = json.loads(answer["Body"].read())
        asked = client.invoke_endpoint(**request, Body=b"0.1,0.2,0.3,0.4", Accept="text/csv")
        line = asked["Body"].read().decode()
    assert answer["ContentType"] == "application/json"
    assert str(selected) == str(
        {"predictions": [{"predicted_score": trained.prediction, "probability": float("nan")}]}
    )
    assert line == f"{trained.prediction!r},nan"
    log = served.log_path.read_text()  # whole, as the server has ended
    assert "Selected key(s) ['probability'] incompatible for objective" in log

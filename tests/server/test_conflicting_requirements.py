"""Two models that need two versions of scikit-learn answer rightly, side by side, in one server.

The packages come from the package index, as they would for a user.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from uv import find_uv_bin

from tests.engines import drop
from tests.models import CSV
from tests.servers import predict, runtime_client, serving

pytestmark = pytest.mark.timeout(400)
OLD, NEW = "1.5.2", "1.7.2"
_TRAIN = """
import json, sys, joblib, numpy, sklearn
from sklearn.ensemble import GradientBoostingRegressor
rows = numpy.random.default_rng(int(sys.argv[2])).random((80, 4))
model = GradientBoostingRegressor(random_state=0).fit(rows, rows.sum(axis=1) * int(sys.argv[2]))
joblib.dump(model, sys.argv[1])
answer = float(model.predict([[0.1, 0.2, 0.3, 0.4]])[0])
print(json.dumps([sklearn.__version__, answer]))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, tuple[bytes, float]]:
    """Version -> a model that this version saved, and what it predicts for ROW."""
    root = tmp_path_factory.mktemp("versions")
    made = {}
    for seed, version in enumerate((OLD, NEW), start=1):
        packages, model = root / version, root / f"{version}.joblib"
        command = [find_uv_bin(), "pip", "install", "--quiet", "--target", str(packages)]
        cache = ["--cache-dir", str(root / "cache"), "--python", sys.executable]
        subprocess.run([*command, *cache, f"scikit-learn=={version}"], check=True)
        done = subprocess.run(
            [sys.executable, "-P", "-c", _TRAIN, str(model), str(seed)],
            env={**os.environ, "PYTHONPATH": str(packages)},
            capture_output=True,
            text=True,
            check=True,
        )
        ran, answer = json.loads(done.stdout)
        assert ran == version
        made[version] = (model.read_bytes(), answer)
    return made


def test_two_versions_of_scikit_learn_answer_side_by_side(tmp_path: Path, trained):
    models = tmp_path / "models"
    for version, (data, _) in trained.items():
        pin = f"scikit-learn=={version}\n".encode()
        drop(models, f"{version}.tar.gz", {"model.joblib": data, "code/requirements.txt": pin})
    with (
        serving(tmp_path, models) as server,
        runtime_client(server.url, read_timeout=180) as client,
    ):
        for _ in range(2):
            for version, (_, answer) in trained.items():
                assert predict(client, f"{version}.tar.gz") == pytest.approx(answer, rel=1e-6)
        assert len(server.state()["environments"]["built"]) == 2


def test_a_model_of_another_version_without_its_pin_is_refused_with_both_versions(
    tmp_path: Path, trained
):
    import sklearn  # noqa: PLC0415 - only its version

    drop(tmp_path / "models", "a.tar.gz", {"model.joblib": trained[OLD][0]})
    with serving(tmp_path, tmp_path / "models") as server, runtime_client(server.url) as client:
        with pytest.raises(ClientError) as refused:
            predict(client, "a.tar.gz", CSV)
        message = refused.value.response["OriginalMessage"]
        assert OLD in message
        assert sklearn.__version__ in message

"""The command line as a user types it: real processes, a real server, real tarballs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from mme.cli.served import server
from tests.models import CSV, booster
from tests.wheels import write_wheel

MODEL = booster(1)
ROOT = Path(__file__).parents[2]


def run(*arguments, timeout=15, **options):
    return subprocess.run(
        [sys.executable, "-m", "mme.cli.main", *map(str, arguments)],
        capture_output=True,
        timeout=timeout,
        check=False,
        **options,
    )


def refusal(done, code=1):
    """The one line that an operator gets."""
    error = done.stderr.decode()
    assert (done.returncode, error.count("\n"), error[:5]) == (code, 1, "mme: "), error
    return error[5:-1]


@pytest.fixture
def packed(tmp_path):
    model = tmp_path / "acme.ubj"
    model.write_bytes(MODEL.data)
    done = run("pack", model, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"acme.tar.gz" in done.stdout
    assert b"xgboost" in done.stdout
    return tmp_path / "acme.tar.gz"


@pytest.fixture
def url(tmp_path, packed):
    store = tmp_path / "store"
    store.mkdir()
    packed.rename(store / packed.name)
    with server(
        tmp_path / "log", models=store, port=0, workers=1, cache_dir=tmp_path / "cache"
    ) as address:
        yield address


def test_what_pack_made_check_loads_and_predicts_with(packed):
    done = run("check", packed, "--payload", "-", input=CSV)
    assert (done.returncode, done.stderr) == (0, b"")
    told = dict(line.split(maxsplit=1) for line in done.stdout.decode().splitlines())
    assert told["loader"] == "xgboost (acme.ubj: xgboost ubj)"
    assert told["members"] == "acme.ubj"
    assert json.loads(told["prediction"].split("  ")[0]) == pytest.approx([MODEL.prediction])
    assert "a server would load it" in done.stdout.decode()


def test_check_tells_why_a_payload_is_refused_after_what_it_learned(packed):
    done = run("check", packed, "--payload", "1,2")
    assert b"load time" in done.stdout
    assert "Feature size of csv inference data 2" in refusal(done)


def test_check_refuses_a_link_a_cut_and_a_missing_tarball(tmp_path, packed):
    (tmp_path / "link").symlink_to("/etc/passwd")
    with tarfile.open(tmp_path / "link.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "link", "link")
    (tmp_path / "cut.tar.gz").write_bytes(packed.read_bytes()[:-20])
    assert "link" in refusal(run("check", tmp_path / "link.tar.gz"))
    assert "cut short" in refusal(run("check", tmp_path / "cut.tar.gz"))
    assert "No such file" in refusal(run("check", tmp_path / "absent.tar.gz"))


def test_trust_data_refuses_a_pickle_and_says_so(tmp_path):
    marker = tmp_path / "ran"
    (tmp_path / "model.pkl").write_bytes(f"cos\nsystem\n(S'touch {marker}'\ntR.".encode())
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "model.pkl", "xgboost-model")
    assert refusal(run("check", tmp_path / "evil.tar.gz", "--trust", "data"))
    assert not marker.exists()


SCRIPT = """
import mmeprobe
print("loading with", mmeprobe.VERSION)
def predict_fn(data, model):
    return 2 * model.predict(data)
"""


@pytest.fixture
def demanding(tmp_path):
    """Packs a model with a script and a requirement, of which there is a version 1.0."""
    (tmp_path / "acme.ubj").write_bytes(MODEL.data)
    (tmp_path / "serve.py").write_text(SCRIPT)
    write_wheel(tmp_path / "wheels", "mmeprobe", "1.0")

    def pack(requirement):
        (tmp_path / "pins.txt").write_text(f"{requirement}  # ours\n")
        code = ("--script", "serve.py", "--requirements", "pins.txt")
        done = run("pack", "acme.ubj", *code, cwd=tmp_path)
        assert b"taken for script" in done.stdout, done.stderr
        return tmp_path / "acme.tar.gz"

    return pack


def offline(tmp_path):
    return ("--wheels", tmp_path / "wheels", "--package-index", "none")


@pytest.mark.timeout(90)
def test_check_builds_requirements_once_and_shows_what_the_script_prints(tmp_path, demanding):
    tarball = demanding("mmeprobe==1.0")
    kept = (*offline(tmp_path), "--cache-dir", tmp_path / "kept")
    digests = set()
    for how in ("built in", "built before"):
        done = run("check", tarball, *kept, "--payload", "-", input=CSV, timeout=40)
        assert (done.returncode, done.stderr) == (0, b"")
        told = dict(line.split(maxsplit=1) for line in done.stdout.decode().splitlines())
        assert told["loader"] == "script (code/inference.py: script)"
        assert told["members"] == "acme.ubj, code/inference.py, code/requirements.txt"
        assert (told["requirements"], told["printed"]) == ("mmeprobe==1.0", "loading with 1.0")
        assert json.loads(told["prediction"].split("  ")[0]) == [
            pytest.approx(2 * MODEL.prediction)
        ]
        digest, _, spent = told["environment"].partition(", ")
        assert spent.startswith(how)
        digests.add(digest)
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"environments"}
    built = {path.name for path in (tmp_path / "kept" / "environments").iterdir()}
    assert built == {*digests, "uv-cache"}


def test_check_shows_what_the_installer_said_of_requirements_that_cannot_be_had(
    tmp_path, demanding
):
    done = run("check", demanding("mmeprobe==3.0"), *offline(tmp_path))
    assert refusal(done) == "The model's requirements could not be installed."
    lines = done.stdout.decode().splitlines()
    assert "requirements  mmeprobe==3.0" in lines
    assert any("there is no version of mmeprobe==3.0" in line for line in lines)


@pytest.mark.parametrize("flags", [("--requirements", "off"), ("--trust", "data")])
def test_check_refuses_requirements_where_the_server_would(tmp_path, demanding, flags):
    done = run("check", demanding("mmeprobe==1.0"), *offline(tmp_path), *flags)
    assert "does not install any" in refusal(done)


def test_check_names_a_wrong_setting(packed):
    assert "requirements (flags)" in refusal(run("check", packed, "--requirements", "yes"), code=2)
    assert "package_index (flags)" in refusal(run("check", packed, "--package-index", "x"), code=2)


def test_check_shows_the_traceback_of_a_script_that_raises(tmp_path, demanding):
    (tmp_path / "serve.py").write_text("def model_fn(model_dir):\n    raise KeyError('lost')\n")
    done = run("check", demanding("mmeprobe==1.0"), *offline(tmp_path))
    assert "model_fn raised KeyError: 'lost'" in refusal(done)
    assert 'inference.py", line 2, in model_fn' in done.stdout.decode()


@pytest.mark.parametrize(
    ("framework", "name"), [("xgboost", "xgboost-model"), ("torch", "model.pt")]
)
def test_pack_names_a_file_by_convention_where_only_the_user_knows_what_it_is(
    tmp_path, framework, name
):
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    pack = ("pack", tmp_path / "weights.bin", "-o", tmp_path / "out.tar.gz")
    assert "--framework" in refusal(run(*pack))
    assert run(*pack, "--framework", framework).returncode == 0
    with tarfile.open(tmp_path / "out.tar.gz") as archive:
        assert archive.getnames() == [name]


def test_pack_refuses_a_model_of_another_framework_than_named(tmp_path, packed):
    done = run("pack", tmp_path / "acme.ubj", "-o", tmp_path / "x", "--framework", "torch")
    assert "of xgboost, not of torch" in refusal(done)


def test_invoke_prints_the_models_answer_and_nothing_else(url):
    done = run("invoke", "acme.tar.gz", "--body", CSV.decode(), "--endpoint-url", url)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout) == pytest.approx([MODEL.prediction])


def test_invoke_says_what_the_server_refused(url):
    done = run("invoke", "absent.tar.gz", "--body", "1", "--endpoint-url", url)
    assert refusal(done).startswith("ValidationError (400): Failed to download model data")
    done = run("invoke", "acme.tar.gz", "--body", "1", "--endpoint-url", url)
    assert refusal(done).startswith("ModelError (424, 400 from the model): Unable to evaluate")


def test_invoke_reads_its_body_from_a_file_and_signs_with_what_is_configured(url, tmp_path):
    (tmp_path / "row.csv").write_bytes(CSV)
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "PATH": ""}
    body = f"@{tmp_path}/row.csv"
    done = run("invoke", "acme.tar.gz", "--body", body, "--endpoint-url", url, env=keys)
    assert json.loads(done.stdout) == pytest.approx([MODEL.prediction])


def test_models_shows_what_is_resident(url):
    assert b"0 models" in run("models", "--endpoint-url", url).stdout
    run("invoke", "acme.tar.gz", "--body", CSV.decode(), "--endpoint-url", url)
    table = run("models", "--endpoint-url", url, env={"COLUMNS": "160"}).stdout.decode()
    assert "acme.tar.gz" in table
    assert "1 models" in table
    state = json.loads(run("models", "--json", "--endpoint-url", url).stdout)
    assert [model["model"] for model in state["models"]] == ["acme.tar.gz"]


def test_nobody_listening_is_said_in_a_line(tmp_path):
    nowhere = "http://127.0.0.1:9"
    assert nowhere in refusal(run("models", "--endpoint-url", nowhere))
    assert nowhere in refusal(run("invoke", "x", "--body", "1", "--endpoint-url", nowhere))
    assert "no URL" in refusal(run("invoke", "x", "--body", "1", "--endpoint-url", "nowhere"))


@pytest.mark.parametrize(
    ("flags", "environment", "named"),
    [
        (["--port", "http"], {}, "port (flags)"),
        ([], {"MME_WORKERS": "none"}, "workers (environment)"),
        ([], {"SAGEMAKER_BIND_TO_PORT": "99999"}, "port (environment)"),
        (["--config", "absent.toml"], {}, "absent.toml"),
        ([], {"MME_CONFIG": "absent.toml"}, "absent.toml"),
        ([], {}, "models: must be set"),
        (["--models", "ftp://x"], {}, "models: unknown scheme"),
        (["--models", "absent"], {}, "models: 'absent' is no directory"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(tmp_path, flags, environment, named):
    done = run("serve", *flags, cwd=tmp_path, env={"HOME": str(tmp_path), **environment})
    assert named in refusal(done, code=2)


def test_serve_takes_its_port_from_sagemakers_hosts_unless_told_another(tmp_path, packed):
    environment = {"HOME": str(tmp_path), "SAGEMAKER_BIND_TO_PORT": "0", "MME_WORKERS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "mme.cli.main", "serve", "--models", tmp_path],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True,
    )  # fmt: skip
    line = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=15)
    assert (process.returncode, rest) == (0, "")
    assert line.startswith(f"mme is serving {tmp_path} at http://127.0.0.1:")
    assert line.endswith(" as endpoint mme\n")
    assert ":8080 " not in line


def run_python(code, **options):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
        **options,
    )


def test_the_readmes_boto3_example_prints_the_models_answer(url):
    example = next(text for text in readme_examples() if "import boto3" in text)
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    done = run_python(example.replace("http://127.0.0.1:8080", url), env=keys)
    assert f"{MODEL.prediction:.5f}"[:-1] in done.stdout, done.stderr


def test_the_readmes_embedded_example_prints_the_models_answer(tmp_path, packed):
    example = next(text for text in readme_examples() if "mme.Engine" in text)
    (tmp_path / "models").mkdir()
    packed.rename(tmp_path / "models" / packed.name)
    done = run_python(example, cwd=tmp_path, env={"HOME": str(tmp_path)})
    assert f"{MODEL.prediction:.5f}"[:-1] in done.stdout, done.stderr
    assert done.stdout.endswith(" False\n")  # cold


def readme_examples():
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_images_health_check_passes_on_a_server_that_is_ready_and_on_no_other(url):
    dockerfile = (ROOT / "Dockerfile").read_text()
    _python, _flag, code = json.loads(
        re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", dockerfile, re.MULTILINE)[1]
    )
    port = url.rpartition(":")[2]
    for variable in ("MME_PORT", "SAGEMAKER_BIND_TO_PORT"):
        assert run_python(code, env={variable: port}).returncode == 0
        assert run_python(code, env={variable: "9"}).returncode != 0

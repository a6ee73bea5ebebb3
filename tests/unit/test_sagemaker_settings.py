"""SageMaker's variables, and the mode that they come to."""

from __future__ import annotations

from pathlib import Path

import pytest

from mme.cli.sagemaker import HONOURED, load_settings, with_container_spelled_out
from mme.errors import ConfigError

DOCUMENT = Path(__file__).parents[2] / "docs" / "container.md"


def settings(flags=None, config_path=None, **environment):
    absent = {"SAGEMAKER_BASE_DIR": "/no/such"}
    return load_settings(flags or {}, absent | environment, config_path)


@pytest.mark.parametrize(
    ("variable", "value", "place", "expected"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "9000", "server.port", 9000),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "3", "workers.workers", 3),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", "7", "server.invocation_seconds", 7.0),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "90", "server.invocation_seconds", 90.0),
        ("SAGEMAKER_STARTUP_TIMEOUT", "600", "workers.start_seconds", 600.0),
        ("SAGEMAKER_MODEL_JOB_QUEUE_SIZE", "100", "workers.queue_per_model", 100),
        ("SAGEMAKER_MAX_REQUEST_SIZE", "1000", "server.body_limit_bytes", 1000),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "6", "server.body_limit_bytes", 6 * 2**20),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "0", "server.body_limit_bytes", 25_000_000),
        ("MAX_CONTENT_LENGTH", "1000", "server.body_limit_bytes", 1000),
        ("SAGEMAKER_REGION", "eu-west-1", "server.region", "eu-west-1"),
        ("SAGEMAKER_CONTAINER_LOG_LEVEL", "10", "log.log_level", "debug"),
        ("SAGEMAKER_CONTAINER_LOG_LEVEL", "50", "log.log_level", "error"),
        ("SAGEMAKER_CONTAINER_LOG_LEVEL", "WARNING", "log.log_level", "warning"),
    ],
)
def test_a_variable_of_sagemakers_is_heeded(variable, value, place, expected):
    section, attribute = place.split(".")
    assert getattr(getattr(settings(**{variable: value}), section), attribute) == expected


def test_ours_wins_over_sagemakers_and_seconds_over_the_ambiguous_timeout():
    config = settings(SAGEMAKER_BIND_TO_PORT="9000", MME_PORT="9001")
    assert config.server.port == 9001
    both = {"SAGEMAKER_MODEL_SERVER_TIMEOUT": "60", "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "5"}
    assert settings(**both).server.invocation_seconds == 5
    with pytest.raises(ConfigError, match="workers"):
        settings(SAGEMAKER_MODEL_SERVER_WORKERS="many")


def test_the_multi_model_variable_makes_a_container_of_many_open_to_all_addresses(tmp_path):
    (tmp_path / "model").mkdir()
    config = settings(SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_BASE_DIR=str(tmp_path))
    assert (config.server.container, config.server.host) == ("multi", "0.0.0.0")  # noqa: S104
    assert config.store.models == ""
    assert settings(SAGEMAKER_MULTI_MODEL="false").server.container == "off"


def test_a_model_directory_makes_a_container_of_one_unless_models_are_named(tmp_path):
    (tmp_path / "model").mkdir()
    base = {"SAGEMAKER_BASE_DIR": str(tmp_path)}
    config = settings(**base)
    assert config.server.container == "single"
    assert config.store.models == str(tmp_path / "model")
    assert settings({"models": "s3://b/"}, **base).server.container == "off"
    path = tmp_path / "mme.toml"
    path.write_text("models = 's3://b/'")
    assert settings(None, path, **base).server.container == "off"
    elsewhere = settings(SM_MODEL_DIR=str(tmp_path))
    assert elsewhere.store.models == str(tmp_path)


def test_what_is_said_wins_over_what_is_found(tmp_path):
    (tmp_path / "model").mkdir()
    found = {"SAGEMAKER_BASE_DIR": str(tmp_path), "SAGEMAKER_MULTI_MODEL": "true"}
    assert settings({"container": "off"}, **found).server.container == "off"
    config = settings({"container": "single", "host": "127.0.0.1"}, **found)
    assert (config.server.container, config.server.host) == ("single", "127.0.0.1")
    assert settings().server.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("serve --container", "serve --container=multi"),
        ("serve --container --port 0", "serve --container=multi --port 0"),
        ("serve --container single", "serve --container single"),
        ("serve --container=off --port 0", "serve --container=off --port 0"),
        ("", ""),
    ],
)
def test_the_bare_flag_means_a_container_of_many(typed, read):
    assert with_container_spelled_out(typed.split()) == read.split()


def test_every_variable_that_is_heeded_stands_in_the_docs():
    document = DOCUMENT.read_text()
    assert [name for name in HONOURED if f"`{name}`" not in document] == []

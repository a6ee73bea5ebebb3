"""The `[[containers]]` tables: what holds up, and what is refused with the place and the cure."""

import pytest

from mme.config import build_config, load_config
from mme.errors import ConfigError


def read(*tables, **settings):
    return build_config({"containers": list(tables), **settings}).containers


def test_the_tables_of_a_file_are_read_in_their_order(tmp_path):
    path = tmp_path / "mme.toml"
    path.write_text(
        """
        mode = "Direct"
        [[containers]]
        hostname = "prepare"
        command = ["python", "prepare.py"]
        environment = { LEVEL = "3" }
        startup_seconds = 20
        [[containers]]
        hostname = "models"
        models = "s3://bucket/prefix/"
        [[containers]]
        hostname = "legacy"
        url = "http://127.0.0.1:9000"
        target_models = "s3://bucket/other/"
        loaded_bytes = "2GiB"
        """
    )
    config = load_config({}, {}, path)
    prepare, models, legacy = config.containers
    assert config.pipeline.mode == "Direct"
    assert prepare.command == ("python", "prepare.py")
    assert (prepare.environment, prepare.startup_seconds) == ({"LEVEL": "3"}, 20)
    assert (models.is_built_in, models.is_multi_model) == (True, True)
    assert (legacy.is_built_in, legacy.is_multi_model) == (False, True)
    assert legacy.loaded_bytes == 2 * 1024**3


def test_a_pipelines_containers_get_names_where_they_have_none():
    first, second = read({"url": "http://h:1"}, {"url": "http://h:2"})
    assert (first.hostname, second.hostname) == ("container-1", "container-2")


URL = {"url": "http://h:1"}


@pytest.mark.parametrize(
    ("tables", "settings", "says"),
    [
        ([{"hostname": "a"}], {}, "exactly one of models, model, url, command"),
        ([{"hostname": "a", "model": "m", **URL}], {}, "exactly one of"),
        ([{**URL, "hostname": "-a"}], {}, "hostname must be"),
        ([{**URL, "hostname": "a"}, {**URL, "hostname": "a"}], {}, "two have the hostname 'a'"),
        ([{**URL, "port": 1}], {}, "unknown key 'port'"),
        ([{"url": "h:1"}], {}, "url must be a URL"),
        ([{"command": "serve"}], {}, "command must be a list"),
        ([{"model": "m", "connections": 3}], {}, "connections is for siblings"),
        ([{**URL, "connections": True}], {}, "connections must be a single value"),
        ([{**URL, "environment": {"A": "b"}}], {}, "has its environment"),
        ([{"model": "m", "environment": {"A": "b"}}], {}, "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"),
        ([{"command": ["x"], "environment": {"A": 1}}], {}, "A must be a text"),
        ([{"command": ["x"], "environment": {"1A": "1"}}], {}, "'1A' is no name"),
        ([{"command": ["x"], "environment": {"A": "b" * 1025}}], {}, "at most 1024"),
        (
            [{"command": ["x"], "environment": {f"A{i}": "b" * 1000 for i in range(33)}}],
            {},
            "32768 characters",
        ),
        ([URL] * 16, {}, "15 at most, got 16"),
        ([URL, URL], {"mode": "Direct"}, "needs a hostname"),
        ([{"models": "a"}, {"models": "b"}], {}, "one `models` only"),
        ([{"models": "a"}, {**URL, "target_models": "b"}], {}, "one multi-model container only"),
        ([URL], {"models": "a"}, "given by a container"),
        (["a"], {}, "must be a table"),
    ],
)
def test_what_does_not_hold_up_is_refused_in_words(tables, settings, says):
    with pytest.raises(ConfigError) as refused:
        read(*tables, **settings)
    assert says in str(refused.value)


def test_containers_come_from_the_file_alone():
    with pytest.raises(ConfigError, match="unknown setting 'containers'"):
        load_config({}, {"MME_CONTAINERS": "[]"})

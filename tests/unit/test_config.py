"""Settings: three sources, one order, one clear message for what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mme.config import BY_NAME, SETTINGS, Config, build_config, load_config
from mme.config_values import PARSERS, parse_bytes
from mme.errors import ConfigError


def write_toml(tmp_path, text):
    path = tmp_path / "mme.toml"
    path.write_text(text)
    return path


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path):
    path = write_toml(tmp_path, "port = 1\nworkers = 1\nmemory = '1GiB'")
    config = load_config(
        {"port": "3", "workers": None}, {"MME_PORT": "2", "MME_WORKERS": "2"}, path
    )
    assert (config.server.port, config.workers.workers) == (3, 2)
    assert config.cache.memory_bytes == 2**30


def test_a_file_is_utf8_wherever_and_may_say_so(tmp_path):
    path = tmp_path / "mme.toml"
    path.write_bytes("endpoint_name = 'a'\r\nmodels = '/größe'\r\n".encode("utf-8-sig"))
    code = f"from mme.config import load_config; print(ascii(load_config({{}}, {{}}, {path!r})))"
    code = f"from pathlib import PosixPath; {code}"
    somewhere = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **somewhere},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "/gr\\xf6\\xdfe" in told


def test_nothing_given_is_all_defaults():
    assert load_config({}, {}) == Config()


def test_every_setting_comes_from_every_source(tmp_path):
    samples = {
        "text": "x", "path": "x", "url": "http://h:1", "endpoint": "x", "names": "xgboost",
        "port": "7", "count": "7", "bytes": "7MB", "seconds": "7", "ratio": "0.7", "factor": "7",
        "trust": "data", "level": "error", "format": "json",
        "switch": "off", "index": "none", "isolation": "strict", "container": "multi",
        "mode": "Direct", "share": "0.7", "eviction": "gdsf", "onoff": "off", "flag": "on",
        "models": "a,b", "age": "7", "tenant": "key", "moment": "0.007",
    }  # fmt: skip
    for setting in SETTINGS:
        text = samples[setting.kind]
        if setting.kind == "onoff":
            text = "on" if setting.default == "off" else "off"
        path = write_toml(tmp_path, f'{setting.name} = "{text}"')
        by_flag = load_config({setting.name: text}, {})
        assert by_flag == load_config({}, {setting.variable: text}) == load_config({}, {}, path)
        assert by_flag != Config(), setting.name
        value = getattr(getattr(by_flag, setting.section), setting.attribute)
        assert value == PARSERS[setting.kind](text)


def test_models_come_from_a_file_with_a_name_a_line(tmp_path):
    names = tmp_path / "names"
    names.write_text("tenant/a.tar.gz\n\n b,c.tar.gz \n")
    config = load_config({"prewarm": f"@{names}"}, {})
    assert config.cache.prewarm == ("tenant/a.tar.gz", "b,c.tar.gz")
    with pytest.raises(ConfigError, match=r"prewarm .*@file"):
        load_config({"prewarm": f"@{tmp_path / 'nothing'}"}, {})


def test_numbers_and_lists_of_toml_need_no_quotes(tmp_path):
    path = write_toml(tmp_path, 'port = 81\nmemory_share = 0.5\npreload = ["xgboost", "torch"]')
    config = load_config({}, {}, path)
    assert (config.server.port, config.cache.memory_share_ratio) == (81, 0.5)
    assert config.workers.preload == ("xgboost", "torch")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "65536"), ("port", "-1"), ("port", "http"), ("port", "٣"), ("workers", "0"),
        ("memory", "4 parsecs"), ("memory", "0"), ("memory_share", "1.5"), ("models", "  "),
        ("refresh_seconds", "nan"), ("refresh_seconds", "inf"), ("trust", "everyone"),
        ("log_level", "loud"), ("s3_endpoint", "localhost:9000"), ("endpoint_name", "-x"),
        ("endpoint_name", "a" * 64),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_naming_setting_source_and_value(name, value):
    with pytest.raises(ConfigError) as refusal:
        load_config({name: value}, {})
    message = str(refusal.value)
    assert message.startswith(f"{name} (flags): must ")
    assert repr(value) in message


def test_an_unknown_name_is_refused_from_every_source(tmp_path):
    for flags, environment, path in (
        ({"potr": "1"}, {}, None),
        ({}, {"MME_POTR": "1"}, None),
        ({}, {}, write_toml(tmp_path, "potr = 1")),
    ):
        with pytest.raises(ConfigError, match="unknown setting 'potr'"):
            load_config(flags, environment, path)
    with pytest.raises(ConfigError, match="unknown setting 'potr'"):
        build_config({"potr": 1})


@pytest.mark.parametrize("text", ["port = ", "port = true", "\udcff"])
def test_a_broken_file_is_refused_naming_it(tmp_path, text):
    path = tmp_path / "mme.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=r"mme\.toml"):
        load_config({}, {}, path)


def test_a_missing_file_is_refused_naming_it(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml: No such file"):
        load_config({}, {}, tmp_path / "absent.toml")


def test_limits_that_two_rooms_share_are_told_to_both():
    config = build_config({"invocation_seconds": 3.0, "load_seconds": 4.0})
    assert (config.workers.invocation_seconds, config.workers.load_seconds) == (3.0, 4.0)


def test_names_flags_and_variables_are_unique():
    assert (
        len(BY_NAME) == len(SETTINGS) == len({(item.section, item.attribute) for item in SETTINGS})
    )


@given(
    st.integers(1, 2**50), st.sampled_from(["", "B", "KB", "kib", "MB", "MiB", "GB", "GiB", "TiB"])
)
def test_sizes_read_as_written(number, unit):
    power = {"k": 1, "m": 2, "g": 3, "t": 4}.get(unit[:1].lower(), 0)
    base = 1024 if "i" in unit.lower() else 1000
    size = parse_bytes(f"{number} {unit}")
    assert size == pytest.approx(number * base**power, rel=1e-12)


@given(st.sampled_from(sorted(PARSERS)), st.text())
def test_any_text_is_a_value_or_a_value_error(kind, text):
    try:
        PARSERS[kind](text)
    except ValueError as error:
        assert str(error).startswith("must ")  # noqa: PT017 - both outcomes are right

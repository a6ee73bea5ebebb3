"""The access-key file: what it takes, what it refuses, how a new one takes over."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mme.config import ServerConfig
from mme.errors import AccessDenied, ConfigError
from mme.front.access import Action, Caller
from mme.front.credentials import KeyFile, read_keys
from mme.front.watch import Watch

SECRET, API_KEY = "a-secret-of-forty-characters-0123456789a", "an-api-key-of-some-length"
ENTRY = f"""
[[keys]]
name = "acme"
access_key_id = "AKID"
secret_access_key = "{SECRET}"
api_key = "{API_KEY}"
"""


def written(tmp_path, text):
    path = tmp_path / "keys.toml"
    path.write_text(text)
    return str(path)


def caller(tmp_path, lines, action=Action.INVOKE):
    keys = read_keys(written(tmp_path, ENTRY + lines))
    server = ServerConfig(region="eu-west-1", account_id="123456789012")
    return Caller(grant=keys.signing["AKID"].grant, action=action, server=server)


def test_a_key_may_invoke_everything_and_nothing_else_unless_it_says_so(tmp_path):
    caller(tmp_path, "").check_action()
    caller(tmp_path, "").check("any", "any/model.tar.gz", "any")
    caller(tmp_path, "").check("any", None)
    for action in (Action.LOAD, Action.ADMIN):
        with pytest.raises(AccessDenied):
            caller(tmp_path, "", action).check_action()
        caller(tmp_path, f'actions = ["{action.value}"]', action).check_action()


FITTING = [
    ('models = ["acme/*"]', ("mme", "acme/m.tar.gz")),
    ('models = ["acme/*"]', ("mme", "acme/a/b.tar.gz")),
    ('models = ["a", "b"]', ("mme", "b")),
    ('models = ["m[12]"]', ("mme", "m2")),
    ('endpoints = ["prod-*"]', ("prod-1", "m")),
    ('containers = ["one"]', ("mme", "m", "one")),
]
UNFIT = [
    ('models = ["acme/*"]', ("mme", "Acme/m.tar.gz")),
    ('models = ["acme/*"]', ("mme", "acme2/m.tar.gz")),
    ('models = ["acme/*"]', ("mme", "x/acme/m.tar.gz")),
    ('models = ["acme/*"]', ("mme", None)),
    ('models = ["a", "b"]', ("mme", "ab")),
    ("models = []", ("mme", "a")),
    ('endpoints = ["prod-*"]', ("dev", "m")),
    ('containers = ["one"]', ("mme", "m", "two")),
    ('containers = ["one"]', ("mme", "m")),
]


@pytest.mark.parametrize(("lines", "asked"), FITTING)
def test_what_fits_a_pattern_as_a_whole_is_let(tmp_path, lines, asked):
    caller(tmp_path, lines).check(*asked)


@pytest.mark.parametrize(("lines", "asked"), UNFIT)
def test_what_fits_none_or_is_not_named_is_refused_in_awss_words(tmp_path, lines, asked):
    with pytest.raises(AccessDenied) as caught:
        caller(tmp_path, lines).check(*asked)
    assert str(caught.value).startswith(
        "User: arn:aws:iam::123456789012:user/acme is not authorized to perform: "
        "sagemaker:InvokeEndpoint on resource: "
        f"arn:aws:sagemaker:eu-west-1:123456789012:endpoint/{asked[0]}"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[[keys]]",
        'keys = "x"',
        "not toml",
        "[[keys]]\nname = 'a'",
        ENTRY + ENTRY,
        ENTRY + "model = ['a']",
        ENTRY + "actions = ['destroy']",
        ENTRY + "actions = ['open']",
        ENTRY + "models = 'acme/*'",
        ENTRY + "api_key_sha256 = 'ab'",
        ENTRY.replace(f'secret_access_key = "{SECRET}"', ""),
        ENTRY.replace('access_key_id = "AKID"', ""),
        ENTRY.replace(API_KEY, "short"),
        ENTRY.replace("acme", "a b"),
        "[[keys]]\nname = 'a'\napi_key_sha256 = 'AB'",
    ],
)
def test_a_file_that_is_not_right_is_refused_without_telling_secrets(tmp_path, text):
    with pytest.raises(ConfigError, match=r"^access_keys: ") as caught:
        read_keys(written(tmp_path, text))
    assert SECRET not in str(caught.value)
    assert API_KEY not in str(caught.value)


def test_a_file_may_begin_with_the_mark_of_its_encoding(tmp_path):
    assert set(read_keys(written(tmp_path, "\ufeff" + ENTRY)).signing) == {"AKID"}


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        KeyFile(str(tmp_path / "none"))


def test_an_api_key_may_stand_there_as_its_digest(tmp_path):
    digest = hashlib.sha256(API_KEY.encode())
    text = f"[[keys]]\nname = 'a'\napi_key_sha256 = '{digest.hexdigest()}'"
    assert list(read_keys(written(tmp_path, text)).bearing) == [digest.digest()]


def test_nothing_that_is_printed_of_the_keys_holds_a_secret(tmp_path):
    keys = read_keys(written(tmp_path, ENTRY + 'session_token = "a-token"'))
    for shown in (repr(keys), str(keys.signing), repr(keys.signing["AKID"])):
        for secret in (SECRET, API_KEY, "a-token"):
            assert secret not in shown


def stamped(path, second):
    """Of one time of the day, so that no pause of this machine makes a difference."""
    os.utime(path, ns=(0, second * 10**9))
    return str(path)


SOON, LONG_AGO = 2**32, 1


def test_a_file_is_looked_at_once_a_second_and_any_change_is_seen(tmp_path):
    path, now = stamped(written(tmp_path, "one"), LONG_AGO), [0.0]
    watch = Watch([path], clock=lambda: now[0])
    stamped(written(tmp_path, "other"), LONG_AGO)
    assert not watch.changed()
    now[0] = 1.0
    assert watch.changed()
    now[0] = 2.0
    assert not watch.changed()
    (tmp_path / "new").write_text("OTHER")
    stamped(tmp_path / "new", LONG_AGO)
    (tmp_path / "new").replace(path)  # the same size and time, another inode
    now[0] = 3.0
    assert watch.changed()
    Path(path).unlink()
    now[0] = 4.0
    assert not watch.changed()
    now[0] = 5.0
    assert watch.changed()


def test_a_change_is_taken_once_two_looks_have_found_the_same(tmp_path):
    path, now = stamped(written(tmp_path, "one"), SOON), [0.0]
    watch = Watch([path], clock=lambda: now[0])
    for now[0], text, taken in (
        (1.0, "half", False),
        (2.0, "half of it", False),
        (3.0, "half of it", True),
        (4.0, "half of it", False),
        (5.0, "o", False),
        (6.0, "half of it", False),  # as it was taken
    ):
        stamped(written(tmp_path, text), SOON)
        assert watch.changed() is taken


def test_a_key_file_that_is_being_written_grants_nothing_that_it_will_not(tmp_path):
    limits = 'models = ["acme/*"]'
    path, now = stamped(written(tmp_path, ENTRY + limits), SOON), [0.0]
    file = KeyFile(path, clock=lambda: now[0])
    for now[0], text in ((1.0, ENTRY), (2.0, ENTRY + limits + "\n"), (3.0, ENTRY + limits + "\n")):
        stamped(written(tmp_path, text), SOON)
        assert not file.keys().signing["AKID"].grant.models.fit("zeta/m.tar.gz")


def test_a_new_file_takes_over_whole_and_a_broken_one_not_at_all(tmp_path):
    now = [0.0]
    file = KeyFile(stamped(written(tmp_path, ENTRY), LONG_AGO), clock=lambda: now[0])
    assert set(file.keys().signing) == {"AKID"}
    stamped(written(tmp_path, ENTRY.replace("AKID", "AKIDNEW")), LONG_AGO)
    assert set(file.keys().signing) == {"AKID"}
    now[0] = 1.0
    assert set(file.keys().signing) == {"AKIDNEW"}
    stamped(written(tmp_path, ENTRY + ENTRY), LONG_AGO)
    now[0] = 2.0
    with capture_logs() as logged:
        assert set(file.keys().signing) == {"AKIDNEW"}
        assert set(file.keys().signing) == {"AKIDNEW"}
    assert [(line["event"], line["log_level"]) for line in logged] == [("reload_failed", "error")]
    assert SECRET not in str(logged)
    stamped(written(tmp_path, ENTRY), LONG_AGO)
    now[0] = 3.0
    assert set(file.keys().signing) == {"AKID"}


def test_the_key_file_of_the_docs_is_one(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    example = (
        page.split("```toml\n")[1]
        .split("```")[0]
        .replace('sha256 = "..."', f'sha256 = "{"0" * 64}"')
    )
    keys = read_keys(written(tmp_path, example))
    assert (set(keys.signing), len(keys.bearing)) == ({"AKIDACME"}, 1)

"""Where a server may listen that asks nobody who they are."""

from __future__ import annotations

import pytest

from mme.config import ServerConfig
from mme.errors import ConfigError
from mme.front.exposure import check_exposure

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what has to be guarded


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_alone_needs_no_keys(host):
    check_exposure(ServerConfig(host=host))
    check_exposure(ServerConfig(host=host, admin_host=host, admin_port=1))


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.168.1.2", "10.0.0.1", "example", ""])
def test_all_other_addresses_need_keys_or_a_word(host):
    with pytest.raises(ConfigError, match=r"^host: .*--access-keys FILE, or say --no-auth"):
        check_exposure(ServerConfig(host=host))
    with pytest.raises(ConfigError, match=r"^admin_host: "):
        check_exposure(ServerConfig(admin_host=host, admin_port=1))
    check_exposure(ServerConfig(admin_host=host))  # there is no such port
    check_exposure(ServerConfig(host=host, no_auth=True))
    check_exposure(ServerConfig(host=host, access_keys="file"))


@pytest.mark.parametrize("container", ["multi", "single"])
def test_a_container_is_its_platforms_and_has_one_port(container):
    check_exposure(ServerConfig(host=EVERYWHERE, container=container))
    with pytest.raises(ConfigError, match=r"^admin_port: "):
        check_exposure(ServerConfig(container=container, admin_port=1))


def test_keys_and_no_auth_contradict_each_other():
    with pytest.raises(ConfigError, match=r"^access_keys, no_auth: "):
        check_exposure(ServerConfig(access_keys="file", no_auth=True))

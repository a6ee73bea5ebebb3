"""Pure: may a server listen where it is told to: what asks nobody who they are is for this machine.

Decision: a container is its platform's, and asks nobody; it is reached by whom the platform lets.
"""

from __future__ import annotations

from ipaddress import ip_address

from mme.config import ServerConfig
from mme.errors import ConfigError


def check_exposure(server: ServerConfig) -> None:
    """Raises ConfigError where the settings contradict each other, or the server lies open."""
    in_container = server.container in {"multi", "single"}
    if server.access_keys is not None and server.no_auth:
        raise ConfigError("access_keys, no_auth: one or the other")
    if server.admin_port is not None and in_container:
        raise ConfigError("admin_port: the container contract knows one port only")
    if server.access_keys is not None or server.no_auth or in_container:
        return
    hosts = {"host": server.host}
    if server.admin_port is not None:
        hosts["admin_host"] = server.admin_host
    for setting, host in hosts.items():
        if not _is_loopback(host):
            raise ConfigError(
                f"{setting}: {host} can be reached by others, and nobody is asked who they are; "
                "give --access-keys FILE, or say --no-auth"
            )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

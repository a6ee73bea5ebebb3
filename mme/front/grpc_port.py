"""How the gRPC port listens: its limits, and the certificate that is on disk when clients come."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import grpc

from mme.config import ServerConfig
from mme.errors import ConfigError
from mme.front.tls import Tls
from mme.front.watch import Watch

_INT_MAX = 2**31 - 1
_STREAMS = 1000


def open_port(config: ServerConfig, tls: Tls | None) -> Any:  # noqa: ANN401 - grpc has no types
    """A server of gRPC's that will listen there. Raises ConfigError."""
    server = grpc.aio.server(options=_options(config))
    address = f"{config.host}:{config.grpc_port}"
    try:
        if tls is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, _credentials(tls))
    except RuntimeError as error:
        raise ConfigError(f"grpc_port: cannot listen on {address}") from error
    return server


def _options(config: ServerConfig) -> list[tuple[str, int]]:
    milliseconds = min(int(config.body_seconds * 1000), _INT_MAX)
    return [
        ("grpc.max_receive_message_length", config.body_limit_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
        ("grpc.max_allowed_incoming_connections", _connections()),
        # of one connection; gRPC's clients keep back more than that
        ("grpc.max_concurrent_streams", _STREAMS),
        # else up to 8 MB of a message come before it is asked for
        ("grpc.http2.bdp_probe", 0),
        # until HTTP/2 is spoken, too
        ("grpc.server_handshake_timeout_ms", milliseconds),
        # of a connection without calls; gRPC's clients open another
        ("grpc.max_connection_idle_ms", milliseconds),
        # of one with calls, whose client may be there no more
        ("grpc.keepalive_time_ms", milliseconds),
        ("grpc.keepalive_timeout_ms", milliseconds),
    ]


def _connections() -> int:
    """How many at once: half of the files that may be open; HTTP and workers need some, too."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _INT_MAX if files == resource.RLIM_INFINITY else min(files // 2, _INT_MAX)


def _credentials(tls: Tls) -> Any:  # noqa: ANN401
    """The certificate as it is on disk, for each new connection."""

    def read() -> Any:  # noqa: ANN401
        pair = (Path(tls.key).read_bytes(), Path(tls.cert).read_bytes())
        root = Path(tls.client_ca).read_bytes() if tls.client_ca is not None else None
        return grpc.ssl_server_certificate_configuration([pair], root)

    watch = Watch([tls.cert, tls.key])
    return grpc.dynamic_ssl_server_credentials(
        read(), lambda: read() if watch.changed() else None, tls.client_ca is not None
    )

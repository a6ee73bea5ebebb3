"""TLS for new connections, by the certificate that is on disk when they come.

Decision: one context for the server's life; a new certificate is tried in a context of its own
before it goes into that one, so that a broken one changes nothing. Who is trusted to sign clients'
certificates is read at the start only: nothing can be taken out of a context again.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

import structlog

from mme import logs
from mme.config import ServerConfig
from mme.errors import ConfigError
from mme.front.watch import Watch


class Tls:
    """The server's certificate.

    Args:
        cert: the chain, in PEM.
        key: its private key, not encrypted.
        client_ca: who must have signed clients' certificates; None: they need none.
        clock: in seconds, monotonic.

    Raises:
        ConfigError: a file can't be read, or is none of its kind.
    """

    def __init__(
        self,
        cert: str,
        key: str,
        client_ca: str | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cert, self.key, self.client_ca = cert, key, client_ca
        self._watch = Watch([cert, key], clock)
        self.context = _context()
        try:
            self._load(self.context)
        except (OSError, ValueError) as error:
            raise ConfigError(f"tls_cert, tls_key: cannot be used: {_cause(error)}") from error
        if client_ca is not None:
            self._require_clients(client_ca)

    def refresh(self) -> None:
        """Takes a new certificate, if there is one; called before each connection."""
        if not self._watch.changed():
            return
        try:
            self._load(_context())
            self._load(self.context)
        except (OSError, ValueError) as error:
            structlog.get_logger().error(logs.RELOAD_FAILED, file=self.cert, reason=_cause(error))
        else:
            structlog.get_logger().info(logs.RELOADED, file=self.cert)

    def _load(self, context: ssl.SSLContext) -> None:
        # a key that is encrypted would be asked for at the terminal
        context.load_cert_chain(self.cert, self.key, password="")

    def _require_clients(self, client_ca: str) -> None:
        try:
            self.context.load_verify_locations(client_ca)
        except (OSError, ValueError) as error:
            raise ConfigError(f"tls_client_ca: cannot be used: {_cause(error)}") from error
        self.context.verify_mode = ssl.CERT_REQUIRED


def open_tls(config: ServerConfig) -> Tls | None:
    """As the settings say; None: plain HTTP. Raises ConfigError."""
    if config.tls_cert is None and config.tls_key is None:
        if config.tls_client_ca is not None:
            raise ConfigError("tls_client_ca: needs tls_cert and tls_key")
        return None
    if config.tls_cert is None or config.tls_key is None:
        raise ConfigError("tls_cert, tls_key: one needs the other")
    return Tls(config.tls_cert, config.tls_key, config.tls_client_ca)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__

"""mme: a multi-model endpoint engine.

    async with mme.Engine(config) as engine:
        reply = await engine.invoke(invocation)

Names are resolved on first use, so that a worker process, which lives in a sub-package, imports
none of the server.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_EXPORTS = {
    "Engine": "mme.app.engine",
    "Config": "mme.config",
    "build_config": "mme.config",
    "load_config": "mme.config",
    "Invocation": "mme.domain",
    "ModelKey": "mme.domain",
    "Reply": "mme.domain",
    "MmeError": "mme.errors",
}
__all__ = [  # noqa: PLE0604 - resolved by __getattr__
    *sorted(_EXPORTS)
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - as many types as names
    if name not in _EXPORTS:
        raise AttributeError(f"module 'mme' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)

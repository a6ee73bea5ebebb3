"""A kernel without Landlock holds no worker's files: tests of that skip there, and say why."""

from __future__ import annotations

import pytest

from mme.workers.sandbox_landlock import kernel_version


def _lack() -> str:
    """Why there is none; empty: there is."""
    try:
        kernel_version()
    except OSError as error:
        return f"this kernel has no Landlock: {error}"
    return ""


_LACK = _lack()
needs_landlock = pytest.mark.skipif(bool(_LACK), reason=_LACK)

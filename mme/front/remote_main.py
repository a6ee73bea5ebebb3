"""`python -m mme.front.remote_main OPTIONS`: a front process, without what it has no use for."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs a front as its server started it."""
    for unused in ("rich", "better_exceptions"):  # structlog would take them: 4 MB
        sys.modules[unused] = None  # type: ignore[assignment]
    from mme.front.remote_child import run  # noqa: PLC0415 - not before those

    run(sys.argv[1])


if __name__ == "__main__":
    main()

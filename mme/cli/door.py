"""Where the command line lets nothing through: what is raised becomes one line and an exit code.

Exit codes: 0 done; 1 refused, wrong or unreachable; 2 the command line or a setting is wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mme.errors import ConfigError, MmeError


@contextmanager
def door() -> Iterator[None]:
    """Exits the process for whatever is raised within."""
    try:
        yield
    except ConfigError as error:
        sys.exit(_complain(str(error), code=2))
    except MmeError as error:
        sys.exit(_complain(str(error), code=1))
    except Exception as error:  # the command line's door: a line, not a traceback
        if sys.flags.dev_mode:
            raise
        fault = f"{type(error).__name__}: {error}"
        sys.exit(_complain(f"unexpected {fault} (python -X dev shows where)", code=1))


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"mme: {message}\n")
    return code

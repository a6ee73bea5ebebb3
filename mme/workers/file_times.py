"""Times of files in a worker, where seccomp leaves them as they are and says that they were set.

It says so of files that are not there as well, and who asks for the time that it is makes a file
only after an error (`Path.touch`). So here a file that is not there is an error again.
"""

from __future__ import annotations

import os
from typing import Any


def miss_what_is_not_there() -> None:
    """From now on in this process."""
    set_times = os.utime

    def utime(path: Any, *times: Any, **how: Any) -> None:  # noqa: ANN401 - as os.utime
        if not isinstance(path, int):
            looked = {name: how[name] for name in ("dir_fd", "follow_symlinks") if name in how}
            os.stat(path, **looked)  # noqa: PTH116 - as os.utime
        set_times(path, *times, **how)

    for supporting in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        supporting.add(utime)
    os.utime = utime

"""The wall clock may jump: nothing is timed by it."""

from __future__ import annotations

from pathlib import Path

import mme

# Who may look at it: what people read, the order of use that outlives a restart, signatures; and
# how old a file is, which two looks a second apart say as well.
WALL_CLOCK = {
    "app/builtin.py", "app/view.py", "cache/explain.py", "front/connection.py",
    "front/dialects.py", "front/gate.py", "front/record.py", "front/usage_api.py",
    "front/watch.py", "logs.py", "store/disk_files.py", "store/s3_direct.py", "tracing.py",
    "usage/keeping.py",
}  # fmt: skip


def test_only_what_is_told_or_signed_looks_at_the_wall_clock() -> None:
    root = Path(mme.__file__).parent
    looks = ("time.time(", "time.time)", "time.time,", "= time.time\n", "time_ns()", "now(UTC)")
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if any(look in path.read_text() for look in looks)
    }
    assert found == WALL_CLOCK

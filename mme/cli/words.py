"""Bytes and seconds as people read them."""

from __future__ import annotations

STEP = 1024
MINUTE_SECONDS = 60
ONE_DIGIT_BELOW = 10


def in_bytes(size_bytes: float | None) -> str:
    """`1536` -> `1.5 KiB`, `15360` -> `15 KiB`; None -> `-`."""
    if size_bytes is None:
        return "-"
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while size_bytes >= STEP and len(units) > 1:
        size_bytes /= STEP
        units.pop(0)
    digits = 1 if size_bytes < ONE_DIGIT_BELOW and units[0] != "B" else 0
    return f"{size_bytes:.{digits}f} {units[0]}"


def in_seconds(seconds: float | None) -> str:
    """`0.0123` -> `12 ms`, `75` -> `1m15s`; None -> `-`."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"  # noqa: PLR2004
    if seconds < MINUTE_SECONDS:
        return f"{seconds:.1f} s"
    return f"{seconds // MINUTE_SECONDS:.0f}m{seconds % MINUTE_SECONDS:02.0f}s"

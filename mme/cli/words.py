"""Bytes and seconds as people read them."""

from __future__ import annotations

STEP = 1024
MINUTE_SECONDS = 60


def in_bytes(size_bytes: float | None) -> str:
    """`1536` -> `1.5 KiB`; None -> `-`."""
    if size_bytes is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size_bytes) < STEP:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= STEP
    return f"{size_bytes:.1f} TiB"


def in_seconds(seconds: float | None) -> str:
    """`0.0123` -> `12 ms`, `75` -> `1m15s`; None -> `-`."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"  # noqa: PLR2004
    if seconds < MINUTE_SECONDS:
        return f"{seconds:.1f} s"
    return f"{seconds // MINUTE_SECONDS:.0f}m{seconds % MINUTE_SECONDS:02.0f}s"

"""What `mme top` prints of a glance."""

from __future__ import annotations

from dataclasses import asdict

from rich.console import Console

from mme.cache.records import Records
from mme.cli.top import _events


def test_why_a_model_went_is_said_before_for_whom(capsys):
    records = Records(clock=lambda: 0.0)
    long = f"tenant/{'x' * 200}.tar.gz"
    records.add("evicted", "tenant-0", 100, "least recently used of 2", for_whom=long)
    Console(width=80).print(_events([asdict(one) for one in records.latest(1)]))
    assert "least recently used of 2, for tenant" in capsys.readouterr().out

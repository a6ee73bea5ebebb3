"""Locks itself up, then becomes another program: what foreign code runs from its first moment on.

`python -m mme.workers.confined ORDER`. What holds a process stays over `exec`, so nothing of a
model's requirements need be importable, nor any of their code be started, before all of it took.
The same process goes on: its number, its group and what it holds open are the program's.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import msgspec

from mme.workers.memory import die_with_parent
from mme.workers.protocol import encode
from mme.workers.sandbox import NotIsolated, Plan, enter


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to become."""

    plan: Plan
    command: list[str]
    python_path: str = ""  # of the command; "": none, whatever was on this module's own
    isolation_fd: int | None = None  # takes a frame that says what holds; None: nobody asks


def confined(order: Order) -> list[str]:
    """The command in its place, to be started with a path on which this module is."""
    told = msgspec.json.encode(order).decode()
    return [sys.executable, "-P", "-m", "mme.workers.confined", told]


def main() -> NoReturn:
    """Does as ordered on the command line; ends with 1 where a strict plan can't be kept."""
    order = msgspec.json.decode(sys.argv[1].encode(), type=Order)
    try:
        isolation = enter(order.plan)
    except NotIsolated as lacking:
        sys.stderr.write(f"isolation is strict, and there is no {lacking}\n")
        sys.exit(1)
    die_with_parent()  # a change of user would have undone it
    if order.isolation_fd is not None:
        os.write(order.isolation_fd, encode(isolation))
    environment = {**os.environ, "PYTHONPATH": order.python_path}
    os.execve(order.command[0], order.command, environment)  # noqa: S606 - what it is for


if __name__ == "__main__":
    main()

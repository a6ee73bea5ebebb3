"""Fuzzes the parsers for a while: `python -m tests.fuzz --seconds 60`; as many at once as cores.

A finding ends the run with 1: its input is written to a file, which `python -m tests.fuzz TARGET
--input FILE` runs again. Mended, it goes to `corpus/TARGET/`, which every run begins with.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import sys
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tests.fuzz.fuzzing import Found, corpus_of, fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Runs what the command line says."""
    asked = _arguments().parse_args()
    if asked.input is not None:
        for name in asked.target:
            TARGETS[name](asked.input.read_bytes())
        return 0
    names = asked.target or list(TARGETS)
    cores = os.cpu_count() or 1
    each = max(1, cores // len(names))
    failed = 0
    with ProcessPoolExecutor(min(cores, each * len(names))) as pool:
        runs = [
            pool.submit(_run, name, asked.seconds, asked.seed + number, asked.found)
            for name in names
            for number in range(each)
        ]
        for run in as_completed(runs):
            told, is_sound = run.result()
            print(told, flush=True)  # noqa: T201
            failed += not is_sound
    return 1 if failed else 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", choices=[*TARGETS, []], help="default: all")
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--found", type=Path, default=Path("build/fuzz"), help="where findings go")
    parser.add_argument("--input", type=Path, help="a file to run through the target, once")
    return parser


def _run(name: str, seconds: float, seed: int, directory: Path) -> tuple[str, bool]:
    try:
        runs, new = fuzz(TARGETS[name], corpus_of(name), seconds, seed)
    except Found as found:
        data = found.args[0]
        path = directory / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}"
        directory.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        told = "".join(traceback.format_exception(found.__cause__))
        return f"{told}{name}: FOUND with --seed {seed}: {path} ({len(data)} bytes)", False
    return f"{name}: {runs} inputs, {new} of them new, no finding (--seed {seed})", True


if __name__ == "__main__":
    sys.exit(main())

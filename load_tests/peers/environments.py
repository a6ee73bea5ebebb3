"""An environment a peer, made once and kept: what one needs, another may not bear."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from load_tests.peers.base import Peer

_INSTALL_SECONDS = 900
_VERSIONS = """
import json, platform, sys
from importlib.metadata import version
print(json.dumps({"python": platform.python_version(), **{n: version(n) for n in sys.argv[1:]}}))
"""


class PeerUnavailable(Exception):
    """It could not be installed or started; the run goes on without it, and says so."""


def obtain(peer: Peer, place: Path) -> Path:
    """The Python of its environment under `place`, made if it is not there.

    Raises:
        PeerUnavailable: pip failed, or a program that it needs is not there.
    """
    if peer.needs and not shutil.which(peer.needs):
        raise PeerUnavailable(f"{peer.name} needs {peer.needs}, which is not installed")
    if not peer.requirements:
        return Path(sys.executable)
    identity = hashlib.sha256("\n".join(peer.requirements).encode()).hexdigest()[:12]
    directory = place / identity
    python, done = directory / "bin" / "python", directory / "installed"
    if not done.exists():
        create: list[str | Path] = [sys.executable, "-m", "venv", "--clear", directory]
        install: list[str | Path] = [python, "-m", "pip", "install", "--quiet", *peer.requirements]
        for command in (create, install):
            try:
                subprocess.run(
                    command, check=True, capture_output=True, text=True, timeout=_INSTALL_SECONDS
                )
            except subprocess.CalledProcessError as error:
                said = error.stderr.strip()[-500:]
                raise PeerUnavailable(f"{peer.name} could not be installed: {said}") from error
            except subprocess.TimeoutExpired as error:
                raise PeerUnavailable(f"{peer.name} took too long to install") from error
        done.touch()
    return python


def installed_versions(peer: Peer, python: Path) -> dict[str, str]:
    """What its requirements came to in the environment of `python`, and that Python's own version.

    Raises:
        PeerUnavailable: one of them is not there.
    """
    names = [re.split(r"[^\w.-]", requirement)[0] for requirement in peer.requirements]
    done = subprocess.run(
        [python, "-c", _VERSIONS, *names], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip()[-500:]
        raise PeerUnavailable(f"{peer.name} is not all there: {said}")
    found: dict[str, str] = json.loads(done.stdout)
    return found

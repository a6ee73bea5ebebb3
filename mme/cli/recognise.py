"""What a server would take a model's files for: asked of the loaders, in a process of their own.

Decision: a guess made here would be a second list to keep, and importing the loaders would bring
them into a process that has no need of them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mme.errors import ArtifactRefused, LoadFailed
from mme.workers.requirements import find_requirements

CODE = "code"
SCRIPT, REQUIREMENTS = f"{CODE}/inference.py", f"{CODE}/requirements.txt"


def recognise(members: dict[str, Path], framework: str | None) -> str:
    """What the members of an archive are taken for, whose requirements are read as well.

    Args:
        members: their names, and where each lies now.
        framework: what the model has to be, whether it brings a script or not.

    Raises:
        ArtifactRefused: its requirements refer to what is not there.
        LoadFailed: no loader takes it, or another than `framework` does.
    """
    if framework is not None and SCRIPT in members:  # which makes it the script's
        _ask_staged({name: path for name, path in members.items() if not _is_code(name)}, framework)
        framework = None
    return _ask_staged(members, framework)


def ask_loaders(directory: Path, framework: str | None = None) -> str:
    """What the loaders take `directory` for. Raises LoadFailed, with what they would have taken."""
    command = [sys.executable, "-P", "-m", "loaders.find", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise LoadFailed(f"the loaders gave no answer: {done.stderr.strip()[-500:]}") from None
    if "error" in answer:
        hint = "" if framework else " If its name only does not tell, say --framework."
        raise LoadFailed(f"{answer['error']}{hint}")
    if framework is not None and answer["framework"] != framework:
        raise LoadFailed(f"this is a model of {answer['framework']}, not of {framework}")
    return f"{answer['framework']} ({answer['took_for']})"


def _ask_staged(members: dict[str, Path], framework: str | None) -> str:
    with tempfile.TemporaryDirectory(prefix="mme-pack-") as stage:
        for name, path in sorted(members.items()):
            _put(path, Path(stage, name), copied=_is_code(name))
        try:
            find_requirements(Path(stage))
        except ValueError as error:
            raise ArtifactRefused(
                f"{REQUIREMENTS} can't be used: {error}; --script takes a folder of several files"
            ) from error
        return ask_loaders(Path(stage), framework)


def _put(path: Path, place: Path, *, copied: bool) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        place.mkdir(exist_ok=True)
    elif copied:
        shutil.copyfile(path, place)
    else:  # a link, for the loaders' eyes only: no copy of what may be gigabytes
        place.symlink_to(path.resolve())


def _is_code(name: str) -> bool:
    return name.partition("/")[0] == CODE

"""A source package that builds itself, with code of its own and nothing from an index."""

from __future__ import annotations

from pathlib import Path

_PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "NAME"
version = "1.0"
"""
_BACKEND = """
import os, zipfile
from pathlib import Path

def build_wheel(directory, config_settings=None, metadata_directory=None):
    info, modules = "NAME-1.0.dist-info", build()
    with zipfile.ZipFile(Path(directory, "NAME-1.0-py3-none-any.whl"), "w") as wheel:
        for name, text in modules.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: NAME\\nVersion: 1.0\\n")
        kind = "Root-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nGenerator: x\\n" + kind)
        wheel.writestr(f"{info}/RECORD", "")
    return "NAME-1.0-py3-none-any.whl"

build_editable = build_wheel
"""


def source_package(name: str, build: str) -> dict[str, bytes]:
    """The members of an archive that are `./name` to its requirements.

    Args:
        build: Python, in which `build()` gives the modules of what is built, as texts by name.
    """
    members = {
        "pyproject.toml": _PROJECT.replace("NAME", name),
        "backend.py": _BACKEND.replace("NAME", name) + build,
    }
    return {f"code/{name}/{member}": text.encode() for member, text in members.items()}


def write_members(directory: Path, members: dict[str, bytes]) -> Path:
    """Writes them as if an archive had been unpacked there."""
    for name, data in members.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return directory

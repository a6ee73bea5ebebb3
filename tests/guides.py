"""A guide run as its reader would: files saved, commands run in order, outputs compared.

A guide's fences are of three kinds, and nothing else may stand in one:

- `sh`: commands for one bash that lives as long as the guide; any that fails fails the guide. What
  ends with `&` is a server: the port that its line names, or 8080, is waited for.
- `text`: what the commands before it print on standard output; `...` stands for anything, and how
  many blanks there are does not matter.
- any other language: a file, whose first line is a comment that names it.

8080 and other ports of this machine are free ones here, in commands and files, and back in outputs.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\S+)\n")
_PORT = re.compile(r"\b(?:808\d|900\d)\b")
_PATIENCE_SECONDS = 60.0


class GuideFailed(AssertionError):
    """A guide that does not do what it says."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """What stands in one fence."""

    language: str
    text: str


def blocks_of(guide: str) -> list[Block]:
    """The guide's fences, in order."""
    return [Block(language=found[1], text=found[2]) for found in _FENCE.finditer(guide)]


def matches(shown: str, output: str) -> bool:
    """Whether what a guide shows is what came."""
    parts = (re.escape(" ".join(part.split())) for part in shown.split("..."))
    pattern = ".*?".join(parts)
    return re.fullmatch(pattern, " ".join(output.split()), re.DOTALL) is not None


def follow(guide: str, directory: Path, notes: Path) -> None:
    """Does what the guide says in `directory`, with what it takes for that in `notes`.

    Raises:
        GuideFailed: a command fails, or prints something else than is shown.
    """
    with _logs_told(directory), _shell(directory) as reader:
        output = None
        for number, block in enumerate(blocks_of(guide)):
            match block.language:
                case "sh":
                    output = reader.run(block.text, notes / f"{number}.sh")
                case "text":
                    if output is None:
                        raise GuideFailed(f"an output of nothing:\n{block.text}")
                    if not matches(block.text, output):
                        raise GuideFailed(f"shown:\n{block.text}\nbut it printed:\n{output}")
                    output = None
                case _:
                    reader.save(block.text, directory)


class _Ports:
    """Free ports for those that guides name."""

    def __init__(self) -> None:
        self._free: dict[str, str] = {}

    def to_free(self, text: str) -> str:
        return _PORT.sub(lambda found: self._free_for(found[0]), text)

    def to_named(self, text: str) -> str:
        for named, free in self._free.items():
            text = re.sub(rf"\b{free}\b", named, text)
        return text

    def _free_for(self, named: str) -> str:
        if named not in self._free:
            with socket.socket() as some:
                some.bind(("127.0.0.1", 0))
                self._free[named] = str(some.getsockname()[1])
        return self._free[named]


class _Reader:
    """Who sits before the shell."""

    def __init__(self, bash: subprocess.Popen[str], ports: _Ports) -> None:
        self._bash, self._ports = bash, ports

    def save(self, text: str, directory: Path) -> None:
        name = _FILE.match(text)
        if name is None:
            raise GuideFailed(f"neither commands nor a file that has a name:\n{text}")
        path = directory / name[1]
        path.parent.mkdir(exist_ok=True)
        path.write_text(self._ports.to_free(text))

    def run(self, commands: str, script: Path) -> str:
        """What the commands print, all of which succeed."""
        output, errors = script.with_suffix(".out"), script.with_suffix(".err")
        script.write_text(self._ports.to_free(commands))
        self._bash.stdin.write(f". '{script}' </dev/null >'{output}' 2>'{errors}'; echo done\n")
        self._bash.stdin.flush()
        if not self._bash.stdout.readline():  # it ended, as `set -e` has it
            raise GuideFailed(f"failed:\n{commands}\n{output.read_text()}{errors.read_text()}")
        for line in commands.replace("\\\n", " ").splitlines():
            if line.endswith("&"):
                named = _PORT.search(line)
                _wait_for(int(self._ports.to_free(named[0] if named else "8080")), line)
        return self._ports.to_named(output.read_text())


@contextlib.contextmanager
def _logs_told(directory: Path) -> Iterator[None]:
    """Adds what servers logged to what failed."""
    try:
        yield
    except GuideFailed as failed:
        for log in directory.glob("*.log"):
            failed.add_note(f"{log.name}:\n{log.read_text()[-2000:]}")
        raise


@contextlib.contextmanager
def _shell(directory: Path) -> Iterator[_Reader]:
    """A bash; the servers that it has in the background end with it."""
    ports = _Ports()
    port = ports.to_free("8080")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MME_PORT": port,  # as though it were 8080, the default of servers and of clients
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": f"http://127.0.0.1:{port}",
        "COLUMNS": "160",
        "OMP_NUM_THREADS": "1",  # several wait for each other where the machine is busy
    }
    with subprocess.Popen(
        ["bash", "-euo", "pipefail"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        cwd=directory, env=environment, start_new_session=True,
    ) as bash:  # fmt: skip
        try:
            yield _Reader(bash, ports)
            bash.communicate("kill $(jobs -p); wait\n")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(bash.pid, signal.SIGKILL)


def _wait_for(port: int, server: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.02)
    raise GuideFailed(f"does not listen: {server}")

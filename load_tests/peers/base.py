"""What a peer is to the scenario: packages, a way to start, and how one of its models is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from load_tests.plan import Question

CODE = Path(__file__).with_name("model_code.py")  # what their scripts import
JSON = {"Content-Type": "application/json", "Accept": "application/json"}


@dataclass(frozen=True, kw_only=True)
class PeerModel:
    """One model: the file that every server gets, its row, and what the framework says to it."""

    name: str
    framework: str  # xgboost or torch
    path: Path  # its suffix tells the framework to `model_code.load`
    row: tuple[float, ...]
    expected: tuple[float, ...]

    @property
    def csv(self) -> str:
        """The row as a request's body."""
        return ",".join(map(str, self.row))


@dataclass(frozen=True, kw_only=True)
class ModelSet:
    """The models of one phase: as files for the peers, and packed for ours."""

    models: Sequence[PeerModel]
    tarballs: Path
    loaded: int  # the first so many are when a peer serves; ours loads what is asked for


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a peer is started."""

    directory: Path  # its own, empty
    python: Path  # of its environment
    port: int  # free; and those after it
    chosen: ModelSet
    room: int  # models that may be in memory at once, for a peer that evicts

    @property
    def models(self) -> Sequence[PeerModel]:
        """All that it is to serve."""
        return self.chosen.models

    @property
    def loaded(self) -> int:
        """The first so many are in memory when it serves, where it doesn't load what is asked."""
        return self.chosen.loaded

    @property
    def bin(self) -> Path:
        """Its environment's commands."""
        return self.python.parent

    def link_models(self) -> Path:
        """A directory with the models' files, named for their models."""
        directory = self.directory / "models"
        directory.mkdir()
        for model in self.models:
            (directory / f"{model.name}{model.path.suffix}").symlink_to(model.path)
        return directory


@dataclass(frozen=True, kw_only=True)
class Start:
    """What starts it, and how one knows that it serves."""

    command: Sequence[str | Path]
    port: int  # that it answers on
    ready_path: str  # answers 200
    environment: Mapping[str, str] = field(default_factory=dict)
    # method and path that load a model, by its name; a model without is there from the start on, or
    # its first request loads it
    loads: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One server to compare with."""

    name: str
    requirements: tuple[str, ...]  # of its environment; empty: ours
    prepare: Callable[[Site], Start]  # writes what it wants into the site's directory
    question: Callable[[PeerModel], Question]
    evicts: bool = False  # it can serve more models than it holds
    needs: str = ""  # a program that has to be there

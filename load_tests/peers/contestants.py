"""Who takes part: ours, the null servers and the peers, all started and asked in the same way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from load_tests.operator import Operator
from load_tests.peers.base import ModelSet, Peer, PeerModel
from load_tests.peers.running import running
from load_tests.plan import Question
from load_tests.server_process import RunningServer, mme_server, null_server
from load_tests.tenants import Tenant, pack, train

OURS, COMPILED = "mme", "mme --compile-trees on"
NULL, CEILING = "null server", "generator's ceiling"
NO_PEERS = frozenset({OURS, COMPILED, NULL, CEILING})
_SUFFIXES = {"xgboost": ".ubj", "torch": ".pt"}


def make_models(
    directory: Path, count: int, frameworks: str, loaded: int | None = None
) -> ModelSet:
    """Trains `count` models, the frameworks taking turns; all count as loaded, or `loaded`.

    Raises:
        TrainingFailed: that failed.
    """
    trained, files, tarballs = (directory / name for name in ("trained", "files", "tarballs"))
    for each in (trained, files, tarballs):
        each.mkdir(parents=True)
    train(trained, count, frameworks)
    tenants = pack(trained, tarballs)
    return ModelSet(
        models=[_as_peer_model(tenant, trained, files) for tenant in tenants],
        tarballs=tarballs,
        loaded=count if loaded is None else loaded,
    )


def _as_peer_model(tenant: Tenant, trained: Path, files: Path) -> PeerModel:
    question = tenant.question
    name = question.target.removesuffix(".tar.gz")
    [file] = (trained / name).iterdir()
    path = files / f"{name}{_SUFFIXES[tenant.framework]}"
    path.hardlink_to(file)
    row = tuple(map(float, question.body.split(",")))
    return PeerModel(
        name=name, framework=tenant.framework, path=path, row=row, expected=question.expected
    )


class Contestant(Protocol):
    """One server, started anew for every turn."""

    name: str
    evicts: bool  # it can serve more models than it holds
    serves_models: bool

    def start(
        self, chosen: ModelSet, room: int, directory: Path
    ) -> AbstractContextManager[RunningServer]:
        """Runs it with at most `room` models in memory; `directory` is its own, not there yet."""
        ...

    def question(self, model: PeerModel) -> Question:
        """How it is asked for `model`'s row."""
        ...


class Ours:
    """`mme serve` as a user gets it; how much memory is room for some it learns from all.

    Args:
        name: what it is called.
        flags: more than a user gives.
    """

    evicts, serves_models = True, True

    def __init__(self, name: str = OURS, flags: Sequence[str] = ()) -> None:
        self.name = name
        self._flags = flags
        self._bytes_each = 0.0

    @contextmanager
    def start(self, chosen: ModelSet, room: int, directory: Path) -> Iterator[RunningServer]:
        """As Contestant; with less than room for all only after a turn with room for all."""
        directory.mkdir()
        is_all = room >= len(chosen.models)
        flags = [] if is_all else [f"--memory={int(room * self._bytes_each)}"]
        with mme_server(chosen.tarballs, directory, [*self._flags, *flags]) as server:
            yield server
            if is_all:
                with Operator(server.port) as operator:
                    state = operator.state()
                self._bytes_each = state["memory"]["resident_bytes"] / len(state["models"])

    def question(self, model: PeerModel) -> Question:
        """As Contestant."""
        return Question(
            target=f"{model.name}.tar.gz",
            body=model.csv,
            expected=model.expected,
            path="/endpoints/mme/invocations",
        )


class NullServer:
    """It echoes: what is left when the work is taken out.

    Args:
        name: what it is called.
        kind: as `load_tests.null_server`; "bare" for what the generator can do at most.
    """

    evicts, serves_models = False, False

    def __init__(self, name: str = NULL, kind: str = "aiohttp") -> None:
        self.name = name
        self._kind = kind

    @contextmanager
    def start(self, chosen: ModelSet, room: int, directory: Path) -> Iterator[RunningServer]:
        """As Contestant."""
        del chosen, room
        directory.mkdir()
        with null_server(self._kind, directory) as server:
            yield server

    def question(self, model: PeerModel) -> Question:
        """As Contestant."""
        return Question(target="", body=model.csv, expected=model.row, path="/")


class Other:
    """A peer, in its environment."""

    serves_models = True

    def __init__(self, peer: Peer, python: Path) -> None:
        self.name, self.evicts = peer.name, peer.evicts
        self._peer, self._python = peer, python

    @contextmanager
    def start(self, chosen: ModelSet, room: int, directory: Path) -> Iterator[RunningServer]:
        """As Contestant. Raises PeerUnavailable."""
        with running(self._peer, self._python, chosen, room, directory) as server:
            yield server

    def question(self, model: PeerModel) -> Question:
        """As Contestant."""
        return self._peer.question(model)

"""One server after the other put under the same loads: the turns of a comparison.

Decisions: in every round each server is started anew and asked for everything, one after the other,
so that a change in the machine hits all and none shares it with another. Every second round goes
the other way round (A B C, C B A), so that none always follows the same other, or always comes
early. Who fails to start or keep running is told and left out, and the run goes on; if that is
ours, that part of it ends.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from load_tests.measure import GeneratorFailed, measure
from load_tests.operator import Operator
from load_tests.peers.base import ModelSet
from load_tests.peers.contestants import OURS, Contestant, make_models
from load_tests.peers.environments import PeerUnavailable
from load_tests.peers.first_answers import time_first_answers
from load_tests.peers.report import PeersReport
from load_tests.peers.verdicts import ALL_RESIDENT, ROOM_FOR_HALF, warm_mode
from load_tests.plan import Plan, Question
from load_tests.processes import server_bytes
from load_tests.report import Row
from load_tests.server_process import RunningServer

_WARM_SECONDS = 60.0  # within which every model has to answer


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a server is put under while it runs."""

    mode: str
    framework: str
    connections: int
    zipf_exponent: float | None = None


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One start of one server, and what it is put under."""

    contestant: Contestant
    chosen: ModelSet
    room: int  # models that may be in memory
    loads: tuple[Load, ...]
    round: int

    @property
    def memory_name(self) -> str:
        """What the memory that it holds in the end is told as."""
        return self.loads[0].mode if self.loads[0].zipf_exponent else "warm models"

    def questions(self, framework: str) -> tuple[Question, ...]:
        """What is asked of the framework's models."""
        models = [model for model in self.chosen.models if model.framework == framework]
        return tuple(map(self.contestant.question, models))


class Comparison:
    """One run."""

    def __init__(self, options: argparse.Namespace, report: PeersReport, scratch: Path) -> None:
        self._options, self._report, self._scratch = options, report, scratch

    def run_warm(self, contestants: list[Contestant]) -> None:
        """One model of each framework; who fails is removed from `contestants`."""
        options = self._options
        frameworks = options.frameworks.split(",")
        chosen = make_models(self._scratch / "warm", len(frameworks), options.frameworks)
        loads = tuple(
            Load(mode=warm_mode(name, count), framework=name, connections=count)
            for name in frameworks
            for count in options.connections
            if name == "xgboost" or count == max(options.connections)
        )
        for number in range(1, options.rounds + 1):
            self._take_turns(contestants, chosen, len(chosen.models), loads, number)

    def run_mix(self, contestants: list[Contestant]) -> None:
        """Many xgboost models by popularity: all resident, then with room for half of them."""
        options = self._options
        chosen = make_models(self._scratch / "mix", options.models, "xgboost")
        for number in range(1, options.mix_rounds + 1):
            for mode, room in (
                (ALL_RESIDENT, options.models),
                (ROOM_FOR_HALF, options.models // 2),
            ):
                load = Load(
                    mode=mode,
                    framework="xgboost",
                    connections=options.mix_connections,
                    zipf_exponent=options.exponent,
                )
                able = [each for each in contestants if each.evicts or room == options.models]
                self._take_turns(able, chosen, room, (load,), number)

    def run_cold(self, contestants: list[Contestant]) -> None:
        """First answers of models that no server has loaded yet, by framework."""
        options = self._options
        for framework in options.frameworks.split(","):
            place = self._scratch / f"cold-{framework}"
            chosen = make_models(place, options.first_models + 1, framework, loaded=1)
            for contestant in tuple(each for each in contestants if each.serves_models):
                with self._leaving_out(contestant, contestants):
                    self._time_first_answers(contestant, chosen, framework)

    def _time_first_answers(self, contestant: Contestant, chosen: ModelSet, framework: str) -> None:
        names = [model.name for model in chosen.models]
        questions = [contestant.question(model) for model in chosen.models]
        directory = self._scratch / "turn"
        try:
            with contestant.start(chosen, len(names), directory) as server:
                seconds = time_first_answers(server, names, questions)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        self._report.add_first_answers(contestant.name, framework, seconds)

    @contextmanager
    def _leaving_out(self, contestant: Contestant, contestants: list[Contestant]) -> Iterator[None]:
        try:
            yield
        except (PeerUnavailable, GeneratorFailed) as error:
            if contestant.name == OURS:
                raise
            self._report.leave_out(contestant.name, str(error))
            contestants.remove(contestant)

    def _take_turns(
        self,
        contestants: list[Contestant],
        chosen: ModelSet,
        room: int,
        loads: tuple[Load, ...],
        number: int,
    ) -> None:
        for contestant in tuple(contestants if number % 2 else reversed(contestants)):
            turn = Turn(contestant=contestant, chosen=chosen, room=room, loads=loads, round=number)
            with self._leaving_out(contestant, contestants):
                self._take_turn(turn)

    def _take_turn(self, turn: Turn) -> None:
        directory = self._scratch / "turn"
        try:
            with turn.contestant.start(turn.chosen, turn.room, directory) as server:
                for framework in dict.fromkeys(load.framework for load in turn.loads):
                    self._warm(turn, server, framework)
                for load in turn.loads:
                    self._measure(turn, server, load)
                self._weigh(turn, server)
        finally:
            shutil.rmtree(directory, ignore_errors=True)  # hundreds of copies, of some peers

    def _warm(self, turn: Turn, server: RunningServer, framework: str) -> None:
        questions = turn.questions(framework)
        count = min(len(questions), turn.room)  # at once; each is asked, if there is room for it
        load = Load(mode="warming up", framework=framework, connections=count)
        plan = self._plan(turn, server, load)
        plan = replace(plan, seconds=0.1, drain_seconds=_WARM_SECONDS)
        name = turn.contestant.name
        self._report.add(Row(subject=name, mode=load.mode, round=0, outcome=measure(plan)))

    def _measure(self, turn: Turn, server: RunningServer, load: Load) -> None:
        name = turn.contestant.name
        if load.framework != "xgboost" and not turn.contestant.serves_models:
            return  # the same bytes would come back
        before = _count_loads(name, server)
        outcome = measure(self._plan(turn, server, load))
        self._report.add(Row(subject=name, mode=load.mode, round=turn.round, outcome=outcome))
        if load.zipf_exponent and name == OURS:
            loads = _count_loads(name, server) - before
            share = loads / max(1, outcome.checked)
            self._report.note(f"{load.mode}: {name} loaded {loads} times, {share:.1%} of answers")

    def _weigh(self, turn: Turn, server: RunningServer) -> None:
        name = turn.contestant.name
        try:
            self._report.add_memory(name, turn.memory_name, server_bytes(server.pid))
        except (psutil.Error, OSError):  # a child came or went
            self._report.note(f"memory of {name}, {turn.memory_name}: not read")

    def _plan(self, turn: Turn, server: RunningServer, load: Load) -> Plan:
        return Plan(
            port=server.port,
            server_pid=server.pid,
            path="/",
            questions=turn.questions(load.framework),
            connections=load.connections,
            seconds=self._options.seconds,
            seed=turn.round,
            zipf_exponent=load.zipf_exponent,
        )


def _count_loads(name: str, server: RunningServer) -> int:
    if name != OURS:
        return 0
    with Operator(server.port) as operator:
        return operator.loads()

"""Everybody who is there at once: good clients, bad ones, and who overwrites a model meanwhile."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from load_tests.plan import Question
from load_tests.soak.book import Book
from load_tests.soak.callers import Caller, Models, Newest, Overwritten, Topic
from load_tests.soak.rude import BEHAVIOURS, Door, Rude
from load_tests.versions import Versions

_HOT_MODELS = 8
_RUDE_SEED = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """What there is to ask about."""

    questions: Sequence[Question]  # models that stay; the first few are hot
    mended: Question  # whose object is damaged now and then
    versions: Versions
    overwritten: str  # the object that they overwrite
    newest: Newest

    @property
    def hot(self) -> Sequence[Question]:
        """Those that stay in memory for being asked for all the time."""
        return self.questions[:_HOT_MODELS]

    @property
    def cold(self) -> Sequence[Question]:
        """All others."""
        return self.questions[_HOT_MODELS:]


class Writer(threading.Thread):
    """Overwrites one model again and again until `over`."""

    def __init__(self, world: World, pause_seconds: float, over: threading.Event) -> None:
        super().__init__(name="writer")
        self._world, self._pause_seconds, self._over = world, pause_seconds, over

    def run(self) -> None:
        """As in Thread."""
        newest = self._world.newest
        while not self._over.wait(self._pause_seconds):
            newest.number += 1
            self._world.versions.write(newest.number)


def good_clients(
    port: int, world: World, rate: float, over: threading.Event, book: Book
) -> Iterator[threading.Thread]:
    """Callers who ask `rate` times a second in all: half of it what is hot."""

    def calls(traffic: str, share: float, topics: Sequence[Topic]) -> Iterator[Caller]:
        pause_seconds = len(topics) / (share * rate)
        for topic in topics:
            yield Caller(port, traffic, topic, pause_seconds=pause_seconds, over=over, book=book)

    overwritten = world.overwritten, world.versions, world.newest
    yield from calls("hot", 0.5, [Models(world.hot) for _ in range(3)])
    yield from calls("cold", 0.3, [Models(world.cold, drawn=True, seed=n) for n in range(4)])
    yield from calls("overwritten", 0.15, [Overwritten(*overwritten) for _ in range(2)])
    yield from calls("mended", 0.05, [Models([world.mended])])


def bad_clients(
    port: int, world: World, patience_seconds: float, over: threading.Event, book: Book
) -> Iterator[threading.Thread]:
    """One of each kind."""
    for number, (traffic, (behave, pause_seconds)) in enumerate(BEHAVIOURS.items()):
        chance = random.Random(_RUDE_SEED + number)
        door = Door(
            port=port,
            patience_seconds=patience_seconds,
            hot=world.hot[0],
            cold=world.cold,
            random=chance,
        )
        yield Rude(traffic, behave, door, pause_seconds=pause_seconds, over=over, book=book)

"""Good clients: each asks about one kind of thing at its pace, and checks every answer."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from load_tests.answers import Checker
from load_tests.plan import Question
from load_tests.soak.book import RIGHT, Book
from load_tests.versions import Versions

PATH = "/endpoints/mme/invocations"
LOST = "connection lost"
_TIMEOUT_SECONDS = 60
_SHOWN = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """One request."""

    target: str
    body: bytes


class Topic(Protocol):
    """What a caller asks about."""

    def ask(self) -> Ask:
        """The next request."""
        ...

    def judge(self, body: bytes) -> str:
        """RIGHT, or what is wrong with the answer to the latest request."""
        ...


class Models:
    """Models that stay as they are: by turns, or drawn evenly."""

    def __init__(
        self, questions: Sequence[Question], *, drawn: bool = False, seed: int = 0
    ) -> None:
        self._questions = questions
        self._checkers = [Checker(question.expected) for question in questions]
        self._random = random.Random(seed) if drawn else None
        self._number = -1

    def ask(self) -> Ask:
        """As in Topic."""
        count = len(self._questions)
        self._number = self._random.randrange(count) if self._random else (self._number + 1) % count
        question = self._questions[self._number]
        return Ask(target=question.target, body=question.body.encode())

    def judge(self, body: bytes) -> str:
        """As in Topic."""
        return RIGHT if self._checkers[self._number].is_right(body) else "wrong answer"


class Newest:
    """The number of the newest version that may be there: raised before it is written."""

    number = 0


class Overwritten:
    """A model that is overwritten: one of its versions answers, and never an older one again."""

    def __init__(self, target: str, versions: Versions, newest: Newest) -> None:
        self._target, self._versions, self._newest = target, versions, newest
        self._seen = 0

    def ask(self) -> Ask:
        """As in Topic."""
        return Ask(target=self._target, body=self._versions.row)

    def judge(self, body: bytes) -> str:
        """As in Topic."""
        number = self._versions.number_of(body)
        if number is None or not 0 <= number <= self._newest.number:
            return "mixed answer"
        if number < self._seen:
            return "older than the answer before"
        self._seen = number
        return RIGHT


class Caller(threading.Thread):
    """Asks until `over`; a connection that was lost is an outcome, and made again.

    Args:
        traffic: what its requests are called in the book.
        pause_seconds: from one request to the next, if that was answered by then.
    """

    def __init__(  # noqa: PLR0913 - who asks whom about what, how often, and who is told
        self,
        port: int,
        traffic: str,
        topic: Topic,
        *,
        pause_seconds: float,
        over: threading.Event,
        book: Book,
    ) -> None:
        super().__init__(name=f"caller {traffic}")
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
        self._traffic, self._topic, self._book = traffic, topic, book
        self._pause_seconds, self._over = pause_seconds, over

    def run(self) -> None:
        """As in Thread."""
        due = time.monotonic()
        try:
            while not self._over.wait(max(0.0, due - time.monotonic())):
                began = time.monotonic()
                outcome, detail = self._ask()
                ended = time.monotonic()
                self._book.enter(self._traffic, outcome, began, ended, detail)
                due = max(due + self._pause_seconds, ended)
        finally:
            self._connection.close()

    def _ask(self) -> tuple[str, str]:
        """The outcome, and what was answered."""
        ask = self._topic.ask()
        headers = {
            "Content-Type": "text/csv",
            "Accept": "text/csv",
            "X-Amzn-SageMaker-Target-Model": ask.target,
        }
        try:
            self._connection.request("POST", PATH, ask.body, headers)
            with self._connection.getresponse() as answer:
                status, body = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return LOST, f"{ask.target}: {error!r}"
        detail = f"{ask.target}: {body[:_SHOWN]!r}"
        return self._topic.judge(body) if status == HTTPStatus.OK else f"status {status}", detail

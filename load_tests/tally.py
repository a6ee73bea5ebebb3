"""What came back: the latencies of the measured window, and every error by its kind."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence

from load_tests.answers import Checker
from load_tests.plan import Question

_SHOWN = 300


class Tally:
    """The books of one run.

    A request belongs to the window when it was due in it, whenever it is answered; a closed loop's
    request is due when it is sent.
    """

    def __init__(self, questions: Sequence[Question], since: float, until: float) -> None:
        self._questions = questions
        self._checkers = [Checker(question.expected, question.numbers) for question in questions]
        self._since, self._until = since, until
        self.latencies = array("d")
        self.lateness = array("d")
        self.errors: Counter[str] = Counter()
        self.checked = self.answered = 0
        self.first_wrong: str | None = None

    def take(self, number: int, due: float, now: float, answer: tuple[bytes, bytes]) -> None:
        """Enters the answer to question `number` that was `due` then and came `now`."""
        first_line, body = answer
        status = first_line[9:12]
        if status != b"200":
            self.errors[f"status {status.decode('latin-1')}"] += 1
            self._note(number, first_line + b": " + body)
        elif self._checkers[number].is_right(body):
            self.checked += 1
            if self._since <= due < self._until:
                self.answered += 1
                self.latencies.append(now - due)
        else:
            self.errors["wrong answer"] += 1
            self._note(number, body)

    def miss(self, due: float, now: float) -> None:
        """Enters a request that nobody answered, as slow as it was when we gave up."""
        self.errors["unanswered"] += 1
        if self._since <= due < self._until:
            self.latencies.append(now - due)

    def _note(self, number: int, body: bytes) -> None:
        if self.first_wrong is None:
            question = self._questions[number]
            said = body[:_SHOWN].decode("latin-1")
            self.first_wrong = f"{question.target}: expected {question.expected}, got {said!r}"

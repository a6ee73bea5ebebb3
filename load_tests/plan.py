"""What a generator is told and what it tells: plain data, JSON between the processes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

_CSV = {"Content-Type": "text/csv", "Accept": "text/csv"}


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request and the numbers that are its right answer."""

    target: str  # the model, sent as X-Amzn-SageMaker-Target-Model; empty: none
    body: str
    expected: tuple[float, ...]
    path: str = ""  # empty: the plan's
    headers: dict[str, str] | None = None  # None: csv in and out
    numbers: str = ""  # a pattern whose group 1 holds the answer's numbers; empty: all of it

    @property
    def sent_headers(self) -> dict[str, str]:
        """Those of its request."""
        headers = self.headers or _CSV
        if self.target:
            return {**headers, "X-Amzn-SageMaker-Target-Model": self.target}
        return headers


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One measurement of one server."""

    port: int  # on loopback
    server_pid: int  # whose tree's processor time is looked at
    path: str
    questions: tuple[Question, ...]  # asked in turn
    connections: int
    seconds: float  # of the measured window
    warm_up_seconds: float = 0.5  # before it: answers are checked, not timed
    drain_seconds: float = 10.0  # after it, for answers still owed
    arrivals_per_second: float | None = None  # open loop; None: closed loop, as fast as answered
    seed: int = 0  # of the arrivals, and of which question comes next
    zipf_exponent: float | None = None  # of the questions' popularity; None: they take turns
    as_sdk: bool = False  # requests as boto3 sends them, see sdk_requests.py

    def to_json(self) -> str:
        """For the generator's standard input."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The inverse of `to_json`."""
        told = json.loads(text)
        questions = tuple(
            Question(**{**row, "expected": tuple(row["expected"])}) for row in told["questions"]
        )
        return cls(**{**told, "questions": questions})


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one measurement found."""

    answered: int  # rightly, of the requests that belong to the window
    seconds: float
    latency: dict[
        str, float
    ]  # by `percentiles.summarise`, in the window: right answers and unanswered
    lateness: dict[str, float]  # how far behind the schedule the generator itself woke
    checked: int  # answers that were right, warm-up and drain included
    errors: dict[str, int]  # by kind, warm-up and drain included
    first_wrong: str | None  # what was answered where something else was expected
    processors: dict[str, float]  # by `processors.Watch`

    @property
    def per_second(self) -> float:
        """Right answers a second."""
        return self.answered / self.seconds

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """From the generator's standard output."""
        return cls(**json.loads(text))

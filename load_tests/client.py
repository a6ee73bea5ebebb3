"""The load generator: a process that reads a Plan, loads one server, and writes an Outcome.

    python -m load_tests.client < plan.json > outcome.json

Decisions: bare protocols on uvloop, one write and one read a request, since an HTTP client library
costs more than the server under test. A connection that breaks is an error and is not made again;
answers still owed when the drain time ends are errors too, so that nothing slow goes uncounted.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from typing import cast

import uvloop

from load_tests.messages import MalformedMessage, MessageParser, write_request
from load_tests.pace import ClosedLoop, OpenLoop, Pace, draw_arrivals, draw_turns
from load_tests.percentiles import summarise
from load_tests.plan import Outcome, Plan, Question
from load_tests.processors import Watch
from load_tests.sdk_requests import sign_requests
from load_tests.tally import Tally

_HOST = "127.0.0.1"


class Line(asyncio.Protocol):
    """One kept connection, with one request in flight at most."""

    def __init__(self, owner: Generator) -> None:
        self._owner = owner
        self._parser = MessageParser()
        self.question: int | None = None  # which it owes the answer to
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps what it writes to."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not of that class

    def ask(self, question: int, due: float, head: bytes, body: bytes) -> None:
        """Sends one request, its body by itself if there is one beside the head."""
        self.question, self.due = question, due
        self._transport.write(head)
        if body:  # after what is written in this turn of the loop, or the two would go as one
            asyncio.get_running_loop().call_soon(self._transport.write, body)

    def data_received(self, data: bytes) -> None:
        """Hands on the answers that these bytes complete."""
        try:
            for answer in self._parser.feed(data):
                self._owner.answered(self, answer)
        except MalformedMessage:
            self._owner.errors["malformed answer"] += 1
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer closed or the network failed."""
        self._owner.lost(self)

    def close(self) -> None:
        """Hangs up."""
        self._transport.abort()


class Generator:
    """One run: lines, a pace, and the books."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._messages = [itertools.cycle(_messages(plan, each)) for each in plan.questions]
        self._turn = itertools.cycle(draw_turns(plan))
        self._lines: set[Line] = set()
        self._owed = 0
        self._over = asyncio.Event()

    async def run(self) -> Outcome:
        """Opens the connections, loads the server, waits for what it owes.

        Raises:
            OSError: the server can't be reached.
        """
        plan, loop = self._plan, asyncio.get_running_loop()
        for _ in range(plan.connections):
            _transport, line = await loop.create_connection(lambda: Line(self), _HOST, plan.port)
            self._lines.add(line)
        watch, started = Watch(plan.server_pid), time.monotonic()
        since = started + plan.warm_up_seconds
        until = since + plan.seconds
        self._tally = Tally(plan.questions, since, until)
        self.errors = self._tally.errors
        self._pace = self._begin(started, until)
        for line in tuple(self._lines):
            self._pace.freed(line, started)
        with suppress(TimeoutError):
            async with asyncio.timeout(until - started + plan.drain_seconds):
                await self._over.wait()
        processors = watch.read()
        self._close(time.monotonic())
        return self._report(processors)

    def answered(self, line: Line, answer: tuple[bytes, bytes]) -> None:
        """A line's server has answered."""
        if line.question is None:
            self.errors["unasked answer"] += 1
            return
        now = time.monotonic()
        self._tally.take(line.question, line.due, now, answer)
        line.question = None
        self._owed -= 1
        self._pace.freed(line, now)
        self._end_if_over()

    def lost(self, line: Line) -> None:
        """A line is gone; its answer will not come."""
        if line not in self._lines:  # we hung up ourselves
            return
        self._lines.discard(line)
        self.errors["connection lost"] += 1
        self._owed -= line.question is not None
        self._pace.lost(line)
        self._end_if_over()

    def _begin(self, started: float, until: float) -> Pace[Line]:
        rate = self._plan.arrivals_per_second
        if rate is None:
            return ClosedLoop(self._ask, until)
        arrivals = draw_arrivals(rate, started, until, self._plan.seed)
        return OpenLoop(self._ask, arrivals, self._tally.lateness.append)

    def _ask(self, line: Line, due: float) -> None:
        number = next(self._turn)
        self._owed += 1
        line.ask(number, due, *next(self._messages[number]))

    def _end_if_over(self) -> None:
        if not self._lines or (self._owed == 0 and self._pace.is_over()):
            self._over.set()

    def _close(self, now: float) -> None:
        self._pace.close()
        owing = [line.due for line in self._lines if line.question is not None]
        for due in [*owing, *self._pace.unsent()]:
            self._tally.miss(due, now)
        lines, self._lines = self._lines, set()
        for line in lines:
            line.close()

    def _report(self, processors: dict[str, float]) -> Outcome:
        tally = self._tally
        return Outcome(
            answered=tally.answered,
            seconds=self._plan.seconds,
            latency=summarise(tally.latencies),
            lateness=summarise(tally.lateness),
            checked=tally.checked,
            errors=dict(tally.errors),
            first_wrong=tally.first_wrong,
            processors=processors,
        )


def _messages(plan: Plan, question: Question) -> list[tuple[bytes, bytes]]:
    """Requests for one question: what is written at once, and what by itself after that."""
    host, path = f"{_HOST}:{plan.port}", question.path or plan.path
    headers, body = question.sent_headers, question.body.encode()
    if plan.as_sdk:
        return sign_requests(host, path, headers, body)
    return [(write_request(host, path, headers, body), b"")]


async def _run(plan: Plan) -> Outcome:
    return await Generator(plan).run()


def main() -> int:
    """Runs the plan on standard input."""
    plan = Plan.from_json(sys.stdin.read())
    gc.disable()  # a pause here would be counted as the server's; nothing here makes cycles
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcome = runner.run(_run(plan))
    except OSError as error:
        print(f"cannot reach the server on port {plan.port}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(outcome)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

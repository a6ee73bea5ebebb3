"""An operator with one connection: loads, asks, unloads; one after the other."""

from __future__ import annotations

import http.client
import json
import re
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from load_tests.answers import Checker
from load_tests.plan import Question

_LIMIT_SECONDS = 120


class Operator:
    """`with Operator(port) as operator:`; every method raises OSError when the server is gone."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_LIMIT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def load(self, name: str) -> int:
        """Brings a model into memory; the status."""
        return self._call("POST", f"/models/{quote(name, safe='')}/load")[0]

    def unload(self, name: str) -> int:
        """Takes it out of memory; the status, once its memory is back."""
        return self._call("DELETE", f"/models/{quote(name, safe='')}")[0]

    def ask(self, question: Question) -> str | None:
        """What is wrong with the answer, in words; None where it is right."""
        path = "/endpoints/mme/invocations"
        status, body = self._call("POST", path, question.body.encode(), question.sent_headers)
        if status != http.HTTPStatus.OK:
            return f"status {status}"
        return None if Checker(question.expected).is_right(body) else "wrong answer"

    def state(self) -> dict[str, Any]:
        """What `/state` tells."""
        found: dict[str, Any] = json.loads(self._call("GET", "/state")[1])
        return found

    def count(self, metric: str) -> int:
        """A counter since the server was started, by its name and labels as `/metrics` has them."""
        metrics = self._call("GET", "/metrics")[1].decode()
        found = re.search(rf"^{re.escape(metric)} (\S+)$", metrics, re.MULTILINE)
        return int(float(found[1])) if found else 0

    def loads(self) -> int:
        """Models that have come into memory since it was started: loaded, or recalled."""
        outcomes = ("loaded", "recalled")
        return sum(self.count(f'mme_loads_total{{outcome="{each}"}}') for each in outcomes)

    def _call(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        self._connection.request(method, path, body, headers or {})
        with self._connection.getresponse() as answer:
            return answer.status, answer.read()

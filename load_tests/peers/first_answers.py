"""The first answer of a model that a server has not loaded: what a new user waits for.

Decision: what loads a model is part of it, as a call before the request where a server wants one.
The server is asked for a loaded model first, twice, so that its framework is imported and the
connection is there; after that each model once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

from load_tests.answers import Checker
from load_tests.measure import GeneratorFailed
from load_tests.plan import Question
from load_tests.server_process import RunningServer

_LIMIT_SECONDS = 120.0
_WARMED = 2


def time_first_answers(
    server: RunningServer, names: Sequence[str], questions: Sequence[Question]
) -> list[float]:
    """Seconds until each model's first answer, but for the first model, which is loaded.

    Args:
        server: with the first model loaded, or about to be by its first request.
        names: of the models, by which the server knows the calls that load them.
        questions: as many.

    Raises:
        GeneratorFailed: an answer was not right, or did not come.
    """
    taken = []
    connection = HTTPConnection("127.0.0.1", server.port, timeout=_LIMIT_SECONDS)
    try:
        for _ in range(_WARMED):
            _ask(connection, questions[0])
        for name, question in zip(names[1:], questions[1:], strict=True):
            started = time.perf_counter()
            if name in server.loads:
                _call(connection, *server.loads[name])
            _ask(connection, question)
            taken.append(time.perf_counter() - started)
    except (OSError, HTTPException) as error:
        raise GeneratorFailed(f"a cold model was not answered: {error!r}") from error
    finally:
        connection.close()
    return taken


def _ask(connection: HTTPConnection, question: Question) -> None:
    body = _call(connection, "POST", question.path, question.body.encode(), question.sent_headers)
    if not Checker(question.expected, question.numbers).is_right(body):
        raise GeneratorFailed(f"a cold model answered {body[:200]!r}")


def _call(
    connection: HTTPConnection,
    method: str,
    path: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> bytes:
    connection.request(method, path, body, headers or {})
    with connection.getresponse() as answer:
        content = answer.read()
    if answer.status != HTTPStatus.OK:
        raise GeneratorFailed(f"{method} {path} answered {answer.status}: {content[:200]!r}")
    return content

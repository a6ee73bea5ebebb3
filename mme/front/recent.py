"""What the latest requests of each model took, and the last errors: for people who ask.

Decision: one ring of all requests, as the thousands of models that are hardly asked need no space
of their own; a request costs it one append. Errors are kept by model, apart, so that the hot do not
flush them; only of models that exist do names come here, unless what was asked for fails.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

from mme.domain import Invocation
from mme.errors import MmeError

_REQUESTS_KEPT = 8_192
_MODELS_KEPT = 1_000
_ERRORS_KEPT = 5  # of one model
_REASON_LIMIT = 500
_UNEXPECTED = "The server failed; its log has the cause under this request id."
_GONE = "The client did not wait for the answer."


class Recent:
    """The latest requests.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._took: deque[tuple[str | None, float]] = deque(maxlen=_REQUESTS_KEPT)
        self._errors: OrderedDict[str, deque[dict[str, object]]] = OrderedDict()

    def note(
        self,
        invocation: Invocation | None,
        seconds: float,
        status: int,
        error: BaseException | None,
    ) -> None:
        """Takes down one request; `invocation` is None where it was unreadable."""
        if invocation is None:
            return
        if error is None:
            self._took.append((invocation.target_model, seconds))
        elif invocation.target_model is not None:
            self._note_error(invocation.target_model, invocation.request_id, status, error)

    def describe(self, model: str) -> dict[str, object]:
        """What is known of `model`, as JSON. Takes a millisecond."""
        took = sorted(seconds for name, seconds in self._took if name == model)
        return {
            "requests": len(took),
            "p50_seconds": _at(took, 0.5),
            "p90_seconds": _at(took, 0.9),
            "p99_seconds": _at(took, 0.99),
            "errors": list(self._errors.get(model, ()))[::-1],
        }

    def _note_error(self, model: str, request_id: str, status: int, error: BaseException) -> None:
        kept = self._errors.setdefault(model, deque(maxlen=_ERRORS_KEPT))
        self._errors.move_to_end(model)
        if len(self._errors) > _MODELS_KEPT:
            self._errors.popitem(last=False)
        reason = str(error)[:_REASON_LIMIT] if isinstance(error, MmeError) else _UNEXPECTED
        kept.append(
            {
                "at": self._clock(),
                "status": status,
                "kind": type(error).__name__,
                "reason": reason if isinstance(error, Exception) else _GONE,
                "request_id": request_id,
            }
        )


def _at(took: Sequence[float], quantile: float) -> float | None:
    return took[min(len(took) - 1, int(quantile * len(took)))] if took else None

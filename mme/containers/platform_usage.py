"""What requests use of a multi-model container's models, booked under the models' names.

Decision: of another container's memory nobody here knows, so none is charged; its seconds are those
that it took to answer, as there is no telling what else it did in them. A container that is not
there fails requests for any name, so it is not the error that says which names are models', but
whether one has been there, or an artifact of that name has failed to load.
"""

from __future__ import annotations

from mme.cache.failures import Failures
from mme.containers.registry import Registry
from mme.domain import Handover, ModelKey, Reply
from mme.errors import ModelError
from mme.usage.accounts import Accounts


class Booking:
    """Books the requests of one container.

    Args:
        accounts: where.
        registry: what is there.
        failures: what could not be loaded there.
    """

    def __init__(self, accounts: Accounts, registry: Registry, failures: Failures) -> None:
        self._accounts = accounts
        self._registry = registry
        self._failures = failures

    def answered(self, target: ModelKey, bytes_in: int, answer: Reply | Handover) -> None:
        """A request was answered well; what is still arriving counts as it was announced."""
        body = answer.body
        bytes_out = len(body) if isinstance(body, bytes) else body.length_bytes or 0
        account = self._accounts.of(target)
        account.answered(bytes_in, bytes_out)
        account.ran(answer.timings.predict_seconds)

    def failed(self, target: ModelKey, bytes_in: int, error: BaseException) -> None:
        """A request was not, or its client has gone."""
        known = self._registry.current(target) is not None or bool(self._failures.of(target))
        spent_seconds = error.spent_seconds if isinstance(error, ModelError) else 0.0
        self._accounts.failed(target, error, bytes_in, is_known=known)
        if known and spent_seconds:
            self._accounts.of(target).ran(spent_seconds)

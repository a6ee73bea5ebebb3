"""The accounts of all models that are in memory, or did something since they were last taken.

Who is neither has none: what it used is written down, and it gets another one when it comes back.
A name gets an account once it is known to be a model's, by an artifact that was fetched for it;
what is asked of other names is counted in the account of nobody, so that they fill nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice

from mme.errors import CacheThrashing, Fault, MmeError, ModelError
from mme.usage.account import Account, Usage

NOBODY = ""  # is no model's name
_KNOWN_BY = (ModelError, CacheThrashing)  # there was an artifact, or there would be no such error


class Accounts:
    """One account a model.

    Args:
        clock: monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_model: dict[str, Account] = {}
        self._holding: dict[str, Account] = {}  # memory; the one settled longest ago comes first
        self._noted: list[Account] = []

    @property
    def count(self) -> int:
        """Models that have one."""
        return len(self._by_model)

    def enter(self, model: str, resident_bytes: int, load_seconds: float) -> Account:
        """A copy of a model was loaded; its account, for as long as it stays."""
        account = self._holding[model] = self.of(model)
        account.entered(resident_bytes, load_seconds, self._clock())
        return account

    def leave(self, account: Account | None, resident_bytes: int) -> None:
        """The memory of a copy is back; None: it never entered."""
        if account is None:
            return
        account.left(resident_bytes, self._clock())
        if not account.resident_bytes:
            self._holding.pop(account.model, None)

    def resized(self, account: Account | None, more_bytes: int) -> None:
        """A copy takes so much more from now on, or less."""
        if account is not None:
            account.left(-more_bytes, self._clock())

    def failed(
        self, model: str, error: BaseException, bytes_in: int, *, is_known: bool | None = None
    ) -> None:
        """A request for a model failed, wherever that was; who is cancelled has gone.

        Args:
            model: as it was asked for.
            error: why.
            bytes_in: its body's.
            is_known: whether it is a model's name; None: the error tells.
        """
        account = self._by_model.get(model)
        if account is None:
            known = isinstance(error, _KNOWN_BY) if is_known is None else is_known
            account = self.of(model if known else NOBODY)
        account.failed(_fault(error), bytes_in)

    def of(self, model: str) -> Account:
        """The account of a name that is known to be a model's, until it is taken."""
        account = self._by_model.get(model)
        if account is None:
            account = self._by_model[model] = Account(model, self._noted.append)
        return account

    def loaded_elsewhere(self, model: str, load_seconds: float) -> None:
        """Another container loaded a model; what that takes of its memory nobody here knows."""
        self.of(model).entered(0, load_seconds, self._clock())

    def bytes_of(self, model: str) -> int:
        """What a model takes of the memory now."""
        account = self._by_model.get(model)
        return account.resident_bytes if account is not None else 0

    @property
    def noted_count(self) -> int:
        """Accounts in which something was counted since they were taken."""
        return len(self._noted)

    @property
    def holding_count(self) -> int:
        """Models in memory."""
        return len(self._holding)

    def settle(self, count: int) -> None:
        """Charges the memory that so many hold until now, those first that have waited longest."""
        now = self._clock()
        for model in list(islice(self._holding, count)):
            account = self._holding[model] = self._holding.pop(model)  # it comes last now
            account.settle(now)

    def take(self, count: int) -> list[Usage]:
        """What was counted in so many accounts; those that hold no memory are forgotten."""
        noted = self._noted[:count]
        del self._noted[:count]
        for account in noted:
            if not account.resident_bytes and self._by_model.get(account.model) is account:
                del self._by_model[account.model]
        return [account.take() for account in noted]


def _fault(error: BaseException) -> Fault:
    if isinstance(error, MmeError):
        return error.fault
    return Fault.SERVER if isinstance(error, Exception) else Fault.CLIENT

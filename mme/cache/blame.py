"""Against whom the end of a worker is held. Pure.

A worker is at one load and at one batch at most, and its end may be either's doing. The rules:

1. A load that has not come up before is to blame, not the batch beside it. So is one that was at
   an end already since it last came up.
2. Else it is the batch. A load beside it that did come up before is doubted: it is tried once
   more, and falls under the first rule then.
3. Where that is not sure, the load is tried once more, and is to blame if it is at an end again:
   where the worker was killed from outside perhaps; or where the batch's model has yet to give an
   answer, which then, if the load comes up, is to blame.

A load that is to blame fails, and is remembered as any that fails. A batch costs its model a
strike; so many strikes, and it is quarantined. Good answers in a row clear them all: what ends its
worker each second time never gives so many, what was there by chance does soon.
Rejected: strikes that time clears, for who is asked once an hour would end workers for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

STRIKES_TO_QUARANTINE: Final = 3
CLEARING_ANSWERS: Final = 100
_KNOWN_LIMIT = 100_000

_Fact = TypeVar("_Fact")


@dataclass(slots=True)
class _Record:
    """Of a content that was predicted with when a worker ended."""

    strikes: int = 0
    answers: int = 0  # good ones since the last strike


class Blame:
    """What is known of who came up, and of who was there when workers ended; by content."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}
        # Of loads: None: the last one came up. Else it is doubted, with this content beside it that
        # is to blame if it comes up; "": nobody.
        self._loads: dict[str, str | None] = {}

    def came_up(self, content: str) -> None:
        """It was loaded."""
        beside = self._loads.get(content)
        if beside:
            self._strike(beside)
        _put(self._loads, content, None)

    def answered(self, content: str) -> None:
        """It gave a good answer."""
        record = self._records.get(content)
        if record is not None:
            record.answers += 1
            if record.answers >= CLEARING_ANSWERS:
                record.strikes = 0

    def ended(
        self, loading: str, batch: str, *, has_answered: bool = False, is_sure: bool = True
    ) -> int:
        """A worker has; returns the strikes of `batch`, if it is to blame, else 0.

        Args:
            loading: the content that it was loading; "": none that can be why.
            batch: the content that it was predicting with; as well.
            has_answered: whether that has given an answer lately.
            is_sure: whether it was one of them.
        """
        is_known = has_answered or self._has_answered(batch)
        if batch and batch not in self._records:
            _put(self._records, batch, _Record(answers=int(has_answered)))
        if loading in self._loads and self._loads[loading] is None:
            self._loads[loading] = ""
        elif loading:
            if loading in self._loads or (is_sure and (is_known or not batch)):
                self._loads.pop(loading, None)  # it is to blame
            else:
                _put(self._loads, loading, "" if is_known else batch)
            return 0
        return self._strike(batch) if batch else 0

    def may_load_again(self, content: str) -> bool:
        """Whether a load that was at the end of its worker is to be tried once more."""
        return self._loads.get(content) is not None

    def _has_answered(self, content: str) -> bool:
        record = self._records.get(content)
        return record is not None and record.answers > 0

    def _strike(self, content: str) -> int:
        record = self._records.get(content) or _Record()
        record.strikes, record.answers = record.strikes + 1, 0
        _put(self._records, content, record)
        return record.strikes


def _put(facts: dict[str, _Fact], content: str, fact: _Fact) -> None:
    facts.pop(content, None)
    facts[content] = fact
    if len(facts) > _KNOWN_LIMIT:
        del facts[next(iter(facts))]  # what was heard of longest ago

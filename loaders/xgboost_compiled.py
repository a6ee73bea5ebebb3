"""Compiles one flat forest, and believes it only where both give the same answers."""

from __future__ import annotations

from loaders.codecs import Array
from loaders.compiled_call import CompiledCall
from loaders.contract import NotCompilable
from loaders.xgboost_comparison import agree, rows_to_compare
from loaders.xgboost_scorers import FlatScorer, Member


def compile_member(member: Member, asked: Array) -> CompiledCall:
    """Compiles a flat forest.

    Args:
        member: in use by another thread, perhaps.
        asked: rows that it was asked.

    Raises:
        NotCompilable: it is no flat forest, or it did not answer the same.
    """
    if not isinstance(member.scorer, FlatScorer):
        raise NotCompilable("its trees or objective are of another kind")
    forest, transform = member.scorer.forest, member.scorer.transform
    own, compiled = FlatScorer(forest, transform), CompiledCall(forest, transform)
    if not agree(own, compiled, rows_to_compare(forest, asked), member.objective):
        raise NotCompilable("it did not answer the same")
    return compiled

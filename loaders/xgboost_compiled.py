"""Compiles one flat forest, and believes it only where both give the same answers."""

from __future__ import annotations

from loaders.codecs import Array
from loaders.compiled_call import CompiledCall
from loaders.contract import NotCompilable
from loaders.xgboost_comparison import agree, rows_to_compare
from loaders.xgboost_scorers import FlatScorer, Member

_NODES_LIMIT = 65_536  # ONNX Runtime holds up predictions while it takes them in: 50 ms


def compile_member(member: Member, asked: Array) -> CompiledCall:
    """Compiles a flat forest.

    Args:
        member: in use by another thread, perhaps.
        asked: rows that it was asked.

    Raises:
        NotCompilable: it is no flat forest, too large a one, or it did not answer the same.
    """
    if not isinstance(member.scorer, FlatScorer):
        raise NotCompilable("its trees or objective are of another kind")
    forest, transform = member.scorer.forest, member.scorer.transform
    if forest.nodes > _NODES_LIMIT:
        raise NotCompilable(f"its trees have {forest.nodes} nodes, and {_NODES_LIMIT} are the most")
    own, compiled = FlatScorer(forest, transform), CompiledCall(forest, transform)
    if not agree(own, compiled, rows_to_compare(forest, asked), member.objective):
        raise NotCompilable("it did not answer the same")
    return compiled

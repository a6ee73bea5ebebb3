"""Whether a torch program treats each row by itself, so that payloads may be run together.

Decision: it is read from the program, not guessed from answers: every step from the input to the
output must be one of those listed here, which leave a row's numbers in that row. What is not
listed counts as mixing rows; that costs speed, never an answer. Rejected: comparing answers alone,
which misses a program that mixes rows only now and then.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch

_NAMES = """
    linear relu relu_ relu6 leaky_relu leaky_relu_ elu elu_ selu celu gelu silu silu_ mish tanh
    tanh_ sigmoid sigmoid_ hardtanh hardtanh_ hardswish hardsigmoid softplus softsign logsigmoid
    log_sigmoid exp log log1p expm1 abs neg sqrt square rsqrt reciprocal clamp clamp_min clamp_max
    round floor ceil contiguous detach alias layer_norm conv1d conv2d conv3d max_pool1d max_pool2d
    avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d
"""
_STEPS = frozenset(_NAMES.split())
_ROW_DIMENSIONS = 1  # an operand of so many has no dimension to line up with the rows


def _within_a_row(dimension: object) -> bool:
    return isinstance(dimension, int) and (dimension == -1 or dimension > 0)


def _is_false(value: object) -> bool:
    return value is False


def _fits_any_row(other: object) -> bool:
    if isinstance(other, torch.Tensor):
        return other.dim() <= _ROW_DIMENSIONS
    return isinstance(other, int | float)


# What is so only with some argument: the argument's name, and what it has to be.
_STEPS_WITH: Mapping[str, tuple[str, Callable[[object], bool]]] = MappingProxyType(
    {
        "softmax": ("dim", _within_a_row),
        "log_softmax": ("dim", _within_a_row),
        "flatten": ("start_dim", _within_a_row),
        "batch_norm": ("training", _is_false),
        "dropout": ("train", _is_false),
        **dict.fromkeys(("add", "sub", "mul", "div"), ("other", _fits_any_row)),
    }
)
_CHECKS = frozenset({"aten::dim", "aten::eq", "aten::ne", "aten::lt", "aten::gt", "aten::format"})
_ASIDE = frozenset({"prim::Constant", "prim::RaiseException"})
_TIES = frozenset({"prim::TupleConstruct", "prim::ListConstruct", "prim::DictConstruct"})


@dataclass(frozen=True, kw_only=True, slots=True)
class _Step:
    """One operation on rows."""

    name: str
    argument: Callable[[str], object]  # a constant argument by its name

    def keeps_rows_apart(self) -> bool:
        if self.name in _STEPS:
            return True
        if self.name not in _STEPS_WITH:
            return False
        argument, holds = _STEPS_WITH[self.name]
        return holds(self.argument(argument))


def script_keeps_rows_apart(module: Any) -> bool:  # noqa: ANN401 - untyped
    """Reads a TorchScript module in evaluation mode; takes some milliseconds."""
    freeze: Any = torch.jit.freeze  # untyped
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.freeze` is deprecated")
            graph = freeze(module, optimize_numerics=False).graph  # a copy, attributes as constants
        _, *inputs = graph.inputs()
        return _script_steps(graph, {value.debugName() for value in inputs})
    except RuntimeError:  # what can't be frozen is no such program
        return False


def _script_steps(graph: Any, rows: set[str]) -> bool:  # noqa: ANN401 - untyped
    for node in graph.nodes():
        names = [value.debugName() for value in node.inputs()]
        carried = [position for position, name in enumerate(names) if name in rows]
        kind = node.kind()
        if not carried or kind in _CHECKS:
            if kind in _CHECKS | _ASIDE or _only_raises(node):
                continue
            return False
        if kind not in _TIES:
            step = _Step(
                name=kind.removeprefix("aten::"),
                argument=partial(_script_argument, node),
            )
            if carried != [0] or not kind.startswith("aten::") or not step.keeps_rows_apart():
                return False
        rows.update(value.debugName() for value in node.outputs())
    return all(value.debugName() in rows for value in graph.outputs())


def _only_raises(node: Any) -> bool:  # noqa: ANN401 - untyped
    """Whether this is a check of a tensor's dimensions and nothing else."""
    if node.kind() != "prim::If" or any(str(value.type()) == "Tensor" for value in node.outputs()):
        return False
    inner = [each for block in node.blocks() for each in block.nodes()]
    return all(each.kind() in _CHECKS | _ASIDE or _only_raises(each) for each in inner)


def export_keeps_rows_apart(graph: torch.fx.Graph, inputs: Collection[str]) -> bool:
    """Reads a torch.export program; `inputs` are its nodes that stand for rows."""
    rows = set(inputs)
    for node in graph.nodes:
        if node.op == "placeholder":
            continue
        carried = [source for source in node.all_input_nodes if source.name in rows]
        if node.op == "output":
            return len(carried) == len(node.all_input_nodes)
        schema = getattr(node.target, "_schema", None)
        if schema is None or len(carried) != 1 or node.args[0] is not carried[0]:
            return False
        given = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False))
        step = _Step(
            name=schema.name.removeprefix("aten::"),
            argument=partial(_export_argument, {**given, **node.kwargs}),
        )
        if not step.keeps_rows_apart():
            return False
        rows.add(node.name)
    return False


def _script_argument(node: Any, name: str) -> object:  # noqa: ANN401 - untyped
    return node.namedInput(name).toIValue()  # None where it is no constant


def _export_argument(given: Mapping[str, Any], name: str) -> object:
    value = given.get(name)
    return value.meta.get("val") if isinstance(value, torch.fx.Node) else value

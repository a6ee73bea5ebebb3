"""What a saved torch program takes, and how to call it: TorchScript and torch.export differ in it.

Decision: an exported program declares its inputs' types and shapes; a TorchScript module only their
names. Anything but tensors must have a default, or be a constant of the export.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loaders.contract import LoadRefused
from loaders.input_specs import InputSpec
from loaders.torch_rows import export_keeps_rows_apart, script_keeps_rows_apart

_TENSORS = ("Tensor", "Optional[Tensor]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """A module in evaluation mode."""

    module: Any  # torch.nn.Module, whose call is untyped
    specs: tuple[InputSpec, ...]
    call: Callable[[Mapping[str, torch.Tensor]], Any]
    keeps_rows_apart: Callable[[], bool]  # told on demand: it takes some milliseconds
    dtypes: Mapping[str, torch.dtype] = field(default_factory=dict)  # where they are declared


def read_script(path: Path) -> Program:
    """Loads a TorchScript archive. Raises what torch raises, and LoadRefused for its inputs."""
    load: Any = torch.jit.load  # untyped
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", DeprecationWarning)
        module: Any = load(str(path), map_location="cpu").eval()
    specs, forward = (
        [],
        module.forward,
    )  # which skips the looking for hooks, a third of a small call
    for argument in forward.schema.arguments[1:]:  # the first is the module
        if str(argument.type) in _TENSORS:
            optional = argument.has_default_value()
            specs.append(InputSpec(name=argument.name, optional=optional))
        elif not argument.has_default_value():
            raise LoadRefused(
                f"Unable to load model: {path.name[:80]} takes {argument.name[:80]}, which is a "
                f"{str(argument.type)[:80]}: make it a tensor, or add a script."
            )
    names = [spec.name for spec in specs]
    first = forward.schema.arguments[1 : len(names) + 1]
    leading = names == [argument.name for argument in first if not argument.kwarg_only]

    def call(feed: Mapping[str, torch.Tensor]) -> Any:  # noqa: ANN401 - untyped
        if leading and len(feed) == len(names):  # by name a small call takes longer
            return forward(*[feed[name] for name in names])
        return forward(**feed)

    return Program(
        module=module,
        specs=tuple(specs),
        call=call,
        keeps_rows_apart=cache(lambda: script_keeps_rows_apart(module)),
    )


def read_export(path: Path) -> Program:
    """Loads a torch.export program. Raises what torch raises."""
    with path.open("rb") as file:
        exported = torch.export.load(file)
    leaves = exported.graph_signature.user_inputs  # names, and the constants that were given
    graph = exported.graph
    nodes = [node for node in graph.nodes if node.name in leaves]
    values = {node.name: node.meta.get("val") for node in nodes}
    tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    spec, module = exported.call_spec.in_spec, exported.module()

    def call(feed: Mapping[str, torch.Tensor]) -> Any:  # noqa: ANN401 - untyped
        given = [feed.get(leaf, leaf) if isinstance(leaf, str) else leaf for leaf in leaves]
        arguments, keywords = spec.unflatten(given)
        return module(*arguments, **keywords)

    return Program(
        module=module,
        specs=tuple(_declared(name, value) for name, value in tensors.items()),
        call=call,
        keeps_rows_apart=cache(lambda: export_keeps_rows_apart(graph, tensors)),
        dtypes={name: value.dtype for name, value in tensors.items()},
    )


def _declared(name: str, value: torch.Tensor) -> InputSpec:
    sizes: Any = value.shape  # typed as plain numbers, which a free one is not
    shape = tuple(None if isinstance(size, torch.SymInt) else size for size in sizes)
    return InputSpec(name=name, dtype=_numpys(value.dtype), shape=shape)


def _numpys(dtype: torch.dtype) -> np.dtype[Any]:
    if dtype == torch.bfloat16:  # numpy has none
        return np.dtype(np.float32)
    return torch.empty(0, dtype=dtype).numpy().dtype

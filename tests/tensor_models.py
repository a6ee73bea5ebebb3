"""Models of tensors: a graph of ONNX with several inputs, and a program of torch."""

from __future__ import annotations

import io
import warnings

import torch
from onnx import TensorProto, helper


def onnx_sum():
    """Two named inputs, text passed through, and a sum."""
    ends = [
        helper.make_tensor_value_info("left", TensorProto.FLOAT, [None, 2]),
        helper.make_tensor_value_info("right", TensorProto.FLOAT, [None, 2]),
        helper.make_tensor_value_info("word", TensorProto.STRING, [None]),
    ]
    gives = [
        helper.make_tensor_value_info("sum", TensorProto.FLOAT, [None, 2]),
        helper.make_tensor_value_info("same", TensorProto.STRING, [None]),
    ]
    nodes = [
        helper.make_node("Add", ["left", "right"], ["sum"]),
        helper.make_node("Identity", ["word"], ["same"]),
    ]
    graph = helper.make_graph(nodes, "sum", ends, gives)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def torch_double():
    class Double(torch.nn.Module):
        def forward(self, x: torch.Tensor):
            return x * 2

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit: what users have
        torch.jit.save(torch.jit.script(Double()), buffer)
    return buffer.getvalue()

"""What an engine does in float16 or bfloat16, seen in float32: each value is rounded as it does it.

ONNX Runtime has no bfloat16 on the CPU, and few kernels in float16: what lies between those that it
lacks it computes in float32, so that values of 1e6 or 1e-12, which no GPU has there, come through.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Final

import onnx
from onnx import helper

from edgeport.deploy.compilers.onnx_files.onnx_messages import graphs, of_kind, rewrite
from edgeport.deploy.compilers.onnx_files.recurrent_steps import write_out_steps

from .bfloat16 import replace_dtype

_FLOAT: Final = onnx.TensorProto.FLOAT


def round_each(model: onnx.ModelProto, dtype: int) -> None:
    """Let a model in a narrow dtype compute in float32, with each value rounded to that dtype.

    A product is so summed in float32 and rounded once, as on a tensor core (NVIDIA, "NVIDIA A100
    Tensor Core GPU Architecture", 2020). In an LSTM or GRU so is each value of each step.

    Inputs and outputs that are in that dtype in the model stay in it.

    Args:
        model: It tells the dtypes of its values, as those that ONNX Runtime's converter makes do.
        dtype: ``TensorProto.FLOAT16`` or ``BFLOAT16``.
    """
    for operator in ("LSTM", "GRU"):
        write_out_steps(model, operator)
    found = graphs(model)
    narrow = [_values_in(graph, dtype) for graph in found]
    inputs = [*_of_dtype(model.graph.input, dtype)]
    outputs = [*_of_dtype(model.graph.output, dtype)]
    replace_dtype(model, dtype, _FLOAT)
    for graph, names in zip(found, narrow, strict=True):
        rewrite(graph, partial(_rounded, names, dtype))
    _give_back(model.graph, inputs, outputs, dtype)


def _values_in(graph: onnx.GraphProto, dtype: int) -> frozenset[str]:
    values = (*graph.value_info, *graph.output)
    return frozenset(value.name for value in _of_dtype(values, dtype))


def _of_dtype(values: Iterable[onnx.ValueInfoProto], dtype: int) -> Iterator[onnx.ValueInfoProto]:
    return (value for value in values if value.type.tensor_type.elem_type == dtype)


def _give_back(
    graph: onnx.GraphProto,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    dtype: int,
) -> None:
    """Cast inputs and outputs, around all nodes in float32, from a dtype and to it."""
    wide = {value.name: f"{value.name}/wide" for value in (*inputs, *outputs)}
    for node in of_kind("NodeProto", graph):
        for names in (node.input, node.output):
            names[:] = [wide.get(name, name) for name in names]
    for value in (*inputs, *outputs):
        value.type.tensor_type.elem_type = dtype
    for value in inputs:
        cast = helper.make_node("Cast", [value.name], [wide[value.name]], to=_FLOAT)
        graph.node.insert(0, cast)
    for value in outputs:
        graph.node.add().CopyFrom(
            helper.make_node("Cast", [wide[value.name]], [value.name], to=dtype)
        )


def _rounded(names: frozenset[str], dtype: int, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    held = [name for name in node.output if name in names]
    left = [f"{name}/exact" if name in names else name for name in node.output]
    del node.output[:]
    node.output.extend(left)
    yield node
    for name in held:
        cut = f"{name}/cut"
        yield helper.make_node("Cast", [f"{name}/exact"], [cut], to=dtype)
        yield helper.make_node("Cast", [cut], [name], to=_FLOAT)

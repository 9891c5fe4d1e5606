"""What an engine does in float16 or bfloat16, seen in float32: each value is rounded as it does it.

ONNX Runtime has no bfloat16 on the CPU, and few kernels in float16: what lies between those that it
lacks it computes in float32, so that values of 1e6 or 1e-12, which no GPU has there, come through.
"""

from collections.abc import Iterator

import onnx
from onnx import helper

from .bfloat16 import replace_dtype
from .onnx_messages import graphs
from .steps import write_out_steps


def round_each(model: onnx.ModelProto, dtype: int) -> None:
    """Let a model in a narrow dtype compute in float32, with each value rounded to that dtype.

    A product is so summed in float32 and rounded once, as on a tensor core (NVIDIA, "NVIDIA A100
    Tensor Core GPU Architecture", 2020). In an LSTM or GRU so is each value of each step.

    Args:
        model: It tells the dtypes of its values, as those that ONNX Runtime's converter makes do.
        dtype: ``TensorProto.FLOAT16`` or ``BFLOAT16``.
    """
    for operator in ("LSTM", "GRU"):
        write_out_steps(model, operator)
    found = graphs(model)
    narrow = [_values_in(graph, dtype) for graph in found]
    replace_dtype(model, dtype, onnx.TensorProto.FLOAT)
    for graph, names in zip(found, narrow, strict=True):
        nodes = [each for node in graph.node for each in _rounded(node, names, dtype)]
        del graph.node[:]
        graph.node.extend(nodes)


def _values_in(graph: onnx.GraphProto, dtype: int) -> frozenset[str]:
    return frozenset(
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == dtype
    )


def _rounded(node: onnx.NodeProto, names: frozenset[str], dtype: int) -> Iterator[onnx.NodeProto]:
    held = [name for name in node.output if name in names]
    left = [f"{name}/exact" if name in names else name for name in node.output]
    del node.output[:]
    node.output.extend(left)
    yield node
    for name in held:
        cut = f"{name}/cut"
        yield helper.make_node("Cast", [f"{name}/exact"], [cut], to=dtype)
        yield helper.make_node("Cast", [cut], [name], to=onnx.TensorProto.FLOAT)

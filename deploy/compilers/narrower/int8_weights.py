"""What int8 makes of weights, and what ONNX Runtime 1.31's converters need of them."""

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto

from edgeport.deploy.compilers.onnx_files.onnx_messages import of_kind

_MOST_TOLD: Final = 3
_BYTES: Final = (TensorProto.INT8, TensorProto.UINT8)
_FLOATS: Final = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def has_stacked(path: Path) -> bool:
    """Whether products have weights in layers, as experts do: those take one scale."""
    graph = onnx.load(path, load_external_data=False).graph
    stacked = {tensor.name for tensor in graph.initializer if len(tensor.dims) > 2}
    return any(node.op_type == "MatMul" and stacked & {*node.input} for node in graph.node)


def give_own_weights(graph: onnx.GraphProto) -> None:
    """To each ``Gemm``: the converter would transpose one that is shared for each of them."""
    nodes = [*of_kind("NodeProto", graph)]
    uses = Counter(name for node in nodes for name in node.input)
    shared = {tensor.name: tensor for tensor in graph.initializer if uses[tensor.name] > 1}
    for count, node in enumerate(nodes):
        if node.op_type == "Gemm" and node.input[1] in shared:
            own = graph.initializer.add()
            own.CopyFrom(shared[node.input[1]])
            own.name = node.input[1] = f"{node.input[1]} {count}"


def share_in_int8(model: onnx.ModelProto) -> float:
    """How much of the weights is in one byte."""
    return share_in(model, _BYTES, _FLOATS)


def share_in(model: onnx.ModelProto, dtypes: Collection[int], others: Collection[int]) -> float:
    """How much of the weights is in some dtypes; biases, scales and zero points have one axis."""
    found, left = (sum(size for _, size in _sizes(model, each)) for each in (dtypes, others))
    return found / (found + left) if found else 0.0


def kept_in_float(model: onnx.ModelProto) -> list[str]:
    """Operators that hold most of the weights in floats."""
    sizes = dict(_sizes(model, _FLOATS))
    held: Counter[str] = Counter()
    for node in of_kind("NodeProto", model):
        held[node.op_type] += sum(sizes.get(name, 0) for name in node.input)
    return [operator for operator, size in held.most_common(_MOST_TOLD) if size]


def _sizes(model: onnx.ModelProto, dtypes: Collection[int]) -> Iterator[tuple[str, int]]:
    for tensor in of_kind("TensorProto", model):
        if tensor.data_type in dtypes and len(tensor.dims) > 1:
            yield tensor.name, int(np.prod(tensor.dims, dtype=np.int64))

"""Which nodes of an ONNX file stay in float32 where the others become narrower, by name."""

from collections.abc import Mapping
from typing import Final

import onnx

from .onnx_messages import graphs, of_kind
from .steps import is_usual

_ADDED: Final = ("ScatterElements", "ScatterND")
"""Where they add what they scatter, ONNX Runtime 1.31 has no float16 on the CPU."""
_WITHOUT_BFLOAT16: Final = (
    "Celu",
    "ConvTranspose",
    "GlobalLpPool",
    "HardSwish",
    "LpNormalization",
    "LpPool",
    "MeanVarianceNormalization",
    "Mish",
    "Shrink",
)
"""TensorRT-RTX 1.7 has none."""
_RECURRENT: Final = ("GRU", "LSTM")


def without_float16(model: onnx.ModelProto) -> list[str]:
    """Those that have none in ONNX, or in ONNX Runtime on the CPU."""
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    nodes = of_kind("NodeProto", model.graph)
    return [n.name for n in nodes if _adds_what_it_scatters(n) or _has_no_float16(n, opsets)]


def without_bfloat16(model: onnx.ModelProto) -> list[str]:
    """Those that TensorRT-RTX has not in bfloat16."""
    return [node.name for node in of_kind("NodeProto", model.graph) if _has_no_bfloat16(node)]


def nodes_on_lists(model: onnx.ModelProto) -> list[str]:
    """Those of sequences of tensors."""
    nodes = of_kind("NodeProto", model.graph)
    return [node.name for node in nodes if "Sequence" in node.op_type]


def products_of_transposed(model: onnx.ModelProto) -> list[str]:
    """Nodes of matrix products behind a transpose, and of the transpose.

    ONNX Runtime 1.31 fuses them, and in float16 crashes on many: both stay in float32 then.
    """
    graph = model.graph
    turned = {node.output[0]: node.name for node in graph.node if node.op_type == "Transpose"}
    found = [
        (node.name, turned[name])
        for node in graph.node
        if node.op_type == "MatMul"
        for name in node.input
        if name in turned
    ]
    return list(dict.fromkeys(name for pair in found for name in pair))


def nodes_of_bodies(model: onnx.ModelProto) -> list[str]:
    """Nodes within branches and loops, but for those that have bodies themselves."""
    *inner, _ = graphs(model)
    nodes = (node for graph in inner for node in graph.node)
    return [node.name for node in nodes if not any(a.HasField("g") for a in node.attribute)]


def _adds_what_it_scatters(node: onnx.NodeProto) -> bool:
    reductions = (each.s for each in node.attribute if each.name == "reduction")
    return node.op_type in _ADDED and any(each != b"none" for each in reductions)


def _has_no_float16(node: onnx.NodeProto, opsets: Mapping[str, int]) -> bool:
    """Whether ONNX says that it answers in float32, and not in float16: ``Celu``."""
    if not onnx.defs.has(node.op_type, node.domain):  # ONNX Runtime's own
        return False
    schema = onnx.defs.get_schema(node.op_type, opsets[node.domain], node.domain)
    known = {each.type_param_str: each.allowed_type_strs for each in schema.type_constraints}
    given = [each for name, each in zip(node.output, schema.outputs, strict=False) if name]
    answers = [known.get(each.type_str, [each.type_str]) for each in given]
    return any("tensor(float)" in held and "tensor(float16)" not in held for held in answers)


def _has_no_bfloat16(node: onnx.NodeProto) -> bool:
    """Also layers over packed sequences: TensorRT-RTX 1.7 selects between float32 and bfloat16."""
    return node.op_type in _WITHOUT_BFLOAT16 or (node.op_type in _RECURRENT and not is_usual(node))

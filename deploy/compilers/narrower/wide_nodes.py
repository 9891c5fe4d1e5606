"""Which nodes of an ONNX file stay in float32 where the others become narrower, by name."""

import contextlib
from collections.abc import Mapping, Set
from typing import Final

import onnx
from onnx import TensorProto

from edgeport.deploy.compilers.onnx_files.onnx_messages import described, dtypes_of, graphs, of_kind
from edgeport.deploy.compilers.onnx_files.recurrent_steps import is_usual

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
_INTEGERS: Final = (TensorProto.INT32, TensorProto.INT64)
_ON_PLACES: Final = (
    *("Add", "Sub", "Mul", "Div", "Neg", "Floor", "Ceil", "Round", "Min", "Max", "Clip"),
    *("Range", "Reshape", "Squeeze", "Unsqueeze", "Expand"),
)
"""What is done to floats between integers and integers."""


def without_float16(model: onnx.ModelProto) -> list[str]:
    """Those that have none in ONNX, or in ONNX Runtime on the CPU, and those of places."""
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    nodes = of_kind("NodeProto", model.graph)
    lacking = [n.name for n in nodes if _adds_what_it_scatters(n) or _has_no_float16(n, opsets)]
    return list(dict.fromkeys([*lacking, *nodes_of_places(model)]))


def without_bfloat16(model: onnx.ModelProto) -> list[str]:
    """Those that TensorRT-RTX has not in bfloat16, and those of places."""
    nodes = of_kind("NodeProto", model.graph)
    lacking = [node.name for node in nodes if _has_no_bfloat16(node)]
    return list(dict.fromkeys([*lacking, *nodes_of_places(model)]))


def nodes_of_places(model: onnx.ModelProto) -> list[str]:
    """Those that make integers of integers by way of floats, as which pixel is the nearest.

    float16 has no odd number beyond 2048, and int8 one range for places and what is at them.
    """
    casts = [node for node in of_kind("NodeProto", model.graph) if node.op_type == "Cast"]
    asked = [node.input[0] for node in casts]
    dtypes = dtypes_of(described(model, asked)) if casts else {}
    found: dict[str, None] = {}
    for graph in graphs(model):
        makers = {name: node for node in graph.node for name in node.output}
        numbers = {each.name for each in graph.initializer}
        for node in graph.node:
            if node.op_type == "Cast" and node.attribute[0].i in _INTEGERS:
                with contextlib.suppress(LookupError):
                    made_by = _of_integers(node.input[0], makers, numbers, dtypes)
                    found |= dict.fromkeys([*made_by, node.name] if made_by else [])
    return list(found)


def _of_integers(
    name: str, makers: Mapping[str, onnx.NodeProto], numbers: Set[str], dtypes: Mapping[str, int]
) -> list[str]:
    """The nodes in float32 that a value is made by, of integers and constants alone.

    Raises:
        LookupError: It is made of something else, or nobody knows of what.
    """
    found: dict[str, None] = {}
    rest, seen = [name], {"", *numbers}
    while rest:
        value = rest.pop()
        if value in seen or dtypes.get(value, TensorProto.FLOAT) != TensorProto.FLOAT:
            continue
        seen.add(value)
        node = makers[value]
        if node.op_type == "Constant":
            continue
        found[node.name] = None
        if node.op_type == "Cast" and dtypes[node.input[0]] != TensorProto.FLOAT16:
            continue
        if node.op_type not in _ON_PLACES:
            raise LookupError(node.op_type)
        rest += node.input
    return list(found)


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

"""Numbers that are made of sizes, ``int(height * 0.7)``, in float64 in ONNX, as Python has them.

torch's exporter (2.13) computes them in float32, in which 90 * 0.7 is less than 63.
"""

import re
from importlib import import_module
from typing import Any, Final

_MADE_BY: Final = re.compile(r"call_function\[target=(?!torch\.ops\.|operator\.getitem)[\w.]+\]\(")
_LITERAL: Final = re.compile(r"-?\d[\d.]*(?:e[-+]?\d+)?")
TRACE: Final = "pkg.torch.onnx.fx_node"
"""Where the exporter notes what of the program a node is made of."""


def widen(graph: Any) -> None:
    """Compute them in float64; what tensors take of them is rounded to float32 there.

    Args:
        graph: Of onnxscript's IR, which is changed.
    """
    ir = import_module("onnx_ir")
    double, single = ir.DataType.DOUBLE, ir.DataType.FLOAT
    made = dict.fromkeys(node for node in graph.all_nodes() if _MADE_BY.search(_origin(node)))
    floats = [value for node in made for value in node.outputs if value.dtype == single]
    if any(value.is_graph_output() for value in floats):
        return
    for node in made:
        for place, value in enumerate(node.inputs):
            if value is not None and value.dtype == single and value.producer() not in made:
                node.replace_input_with(place, _widened(ir, node, value))
        if node.op_type == "Cast" and node.attributes["to"].as_int() == single:
            node.attributes["to"] = ir.AttrInt64("to", double)
    for value in floats:
        value.dtype = double
        for user, place in [(use.node, use.idx) for use in value.uses()]:
            if user not in made and user.op_type != "Cast":
                user.replace_input_with(place, _before(ir, user, "Cast", value, {"to": single}))


def rounded(number: Any, digits: None = None) -> Any:
    """As ``round`` of a number that is made of sizes, to an even one in the middle, in ONNX."""
    op = import_module("onnxscript").opset18
    return op.Cast(op.Round(number), to=import_module("onnx_ir").DataType.INT64)


def _widened(ir: Any, node: Any, value: Any) -> Any:
    """What a node is given, a number of the program or what a tensor held, in float64."""
    double = ir.DataType.DOUBLE
    if value.const_value is None:
        return _before(ir, node, "Cast", value, {"to": double})
    made_of = map(float, _LITERAL.findall(_origin(node).partition("(args = ")[2]))
    rounded = float(value.const_value.numpy())
    exact = next((each for each in made_of if _is_rounded(each, value)), rounded)
    return _before(ir, node, "Constant", value, {"value": ir.tensor(exact, dtype=double)})


def _is_rounded(number: float, value: Any) -> bool:
    rounded = value.const_value.numpy()
    return bool(rounded.dtype.type(number) == rounded)


def _before(ir: Any, user: Any, operator: str, value: Any, attributes: Any) -> Any:
    """What a new node right before another one makes of a value, or in its place."""
    dtype = attributes["to"] if operator == "Cast" else ir.DataType.DOUBLE
    given = [value] if operator == "Cast" else []
    node = ir.node(operator, given, attributes, name=f"{user.name}/{value.name}/{dtype.name}")
    (made,) = node.outputs
    made.name, made.dtype, made.shape = node.name, dtype, value.shape
    user.graph.insert_before(user, node)
    return made


def _origin(node: Any) -> str:
    return str(node.metadata_props.get(TRACE, ""))

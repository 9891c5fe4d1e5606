"""What engines are built from tells what the ONNX file refuses: TensorRT has no such failure."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Final

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper

from edgeport.deploy.compilers.onnx_files.onnx_messages import of_kind
from edgeport.runtimes.run_failures import ANOTHER_WAY
from edgeport.runtimes.tensorrt.tensors import ANSWERED

_FIRST: Final = "first_axis"
_TRUE: Final = f"{ANSWERED}.true"


def tell(model: onnx.ModelProto) -> bool:
    """Let a model answer what it refuses, and say so.

    TensorRT takes no axis that values decide, by which the file fails. In its place an output of
    its own, ``ANSWERED``, is false for an input that the file refuses.

    Returns:
        Whether there is one.
    """
    if not any(map(_hangs, of_kind("NodeProto", model.graph))):
        return False
    _tell(model.graph)
    _let_go(model.graph)
    return True


def _tell(graph: GraphProto) -> None:
    """Give the graph an output that says whether all of its conditions hold."""
    graph.initializer.append(helper.make_tensor(_FIRST, TensorProto.INT64, [1], [0]))
    graph.initializer.append(helper.make_tensor(_TRUE, TensorProto.BOOL, [], [True]))
    names = (f"{ANSWERED}.{number}" for number in itertools.count())
    _and(graph, _conditions(graph, names), ANSWERED)
    graph.output.append(_truth(ANSWERED))


def _conditions(graph: GraphProto, names: Iterator[str]) -> list[str]:
    """The values of a graph that hold unless it refuses; those of what is in it are led out."""
    made_by = {name: node for node in graph.node for name in node.output}
    found: list[str] = []
    for node in graph.node:
        lengths = made_by.get(node.input[0]) if _hangs(node) else None
        if lengths is not None and lengths.op_type == "Range":  # of 1 if the condition holds
            found.append(made_by[lengths.input[1]].input[0])
        bodies = [each for each in node.attribute if each.HasField("g")]
        within = [_conditions(each.g, names) for each in bodies]
        if any(within):
            found.append(_led_out(node, bodies, within, names))
    return list(dict.fromkeys(found))


def _led_out(
    node: NodeProto,
    bodies: Sequence[AttributeProto],
    within: Sequence[list[str]],
    names: Iterator[str],
) -> str:
    """Let a branch or a loop give one value more: whether what it went through holds."""
    out = next(names)
    if node.op_type == "If":
        for each, conditions in zip(bodies, within, strict=True):
            given = next(names)
            _and(each.g, conditions, given)
            each.g.output.append(_truth(given))
        node.output.append(out)
        return out
    (body,), (conditions,) = bodies, within
    is_loop = node.op_type == "Loop"  # else a Scan, whose states are before what it goes through
    scanned = next((each.i for each in node.attribute if each.name == "num_scan_inputs"), 0)
    place = len(node.input) - scanned
    states = place - 2 if is_loop else place
    before, after = next(names), next(names)
    _and(body.g, [before, *conditions], after)
    node.input.insert(place, _TRUE)
    body.g.input.insert(place, _truth(before))
    body.g.output.insert(states + is_loop, _truth(after))
    node.output.insert(states, out)
    return out


def _and(graph: GraphProto, conditions: Sequence[str], name: str) -> None:
    """Add what says whether all of them hold."""
    *rest, last = conditions or [_TRUE]
    for number, each in enumerate(rest):
        both = f"{name}.{number}"
        graph.node.append(helper.make_node("And", [last, each], [both], both))
        last = both
    graph.node.append(helper.make_node("Identity", [last], [name], name))


def _truth(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.BOOL, [])


def _hangs(node: NodeProto) -> bool:
    return node.name.startswith(ANOTHER_WAY)


def _let_go(graph: GraphProto) -> None:
    """Let nodes take that axis off which was put on before them, whatever holds.

    Args:
        graph: The whole, or a side of a branch, or a turn of a loop.
    """
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _let_go(attribute.g)
        if _hangs(node):
            node.input[1] = _FIRST
    used = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if not used.isdisjoint(node.output):
            kept.append(node)
            used.update(name for each in of_kind("NodeProto", node) for name in each.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))

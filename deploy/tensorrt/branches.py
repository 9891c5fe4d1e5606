"""Branches as TensorRT-RTX takes them: 1.7.1 fails by itself on some that ONNX has.

Its importer makes the layer of a constant where that is used first, be it in a side of a branch,
which another side cannot always read ("mScopedOp2Scopes"; seen of bools). A branch within a branch
fails in its compiler ("CHECK(static_cast<size_t>(i) < op->input_size())").
"""

import math
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Final

import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper

from edgeport.deploy.compilers.onnx_files.onnx_messages import (
    constants_by_name,
    described,
    graphs,
    of_kind,
    ranks_of,
    rewrite,
    stand_for,
)

_SMALL: Final = 64
"""So many values may be had twice."""


def flatten(model: onnx.ModelProto) -> bool:
    """Let a branch within a branch compute both sides and choose, as far as that is the same.

    It is where neither side has a loop, which may not end, or takes from places that are computed,
    which may be none.

    Returns:
        Whether there was one.
    """
    asked = [node.input[0] for node in of_kind("NodeProto", model.graph) if node.op_type == "If"]
    ranks, constants = ranks_of(described(model, asked)), constants_by_name(model)
    changed: list[str] = []

    def within(graph: GraphProto, is_side: bool) -> None:
        def written(node: NodeProto) -> Sequence[NodeProto]:
            sides = _bodies(node)
            for each in sides:
                within(each, is_side or node.op_type == "If")
            is_nested = is_side and node.op_type == "If"
            if not is_nested or ranks.get(node.input[0]) != 0 or not _may_be_both(sides, constants):
                return (node,)
            changed.append(node.name)
            return [*_both(node)]

        rewrite(graph, written)

    within(model.graph, False)
    return bool(changed)


def own_constants(model: onnx.ModelProto) -> bool:
    """Give each side of a branch and each loop its own of small constants that others have too.

    Returns:
        Whether there was any.
    """
    found = graphs(model)
    if len(found) == 1:
        return False
    users = Counter(name for graph in found for name in _used(graph))
    shared = {name for name, count in users.items() if count > 1}
    return _own(model.graph, {}, shared, iter(range(2**31)).__next__)


def _own(
    graph: GraphProto,
    outer: Mapping[str, TensorProto],
    shared: set[str],
    number: Callable[[], int],
) -> bool:
    known = {**outer, **{each.name: each for each in graph.initializer}}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            known[node.output[0]] = node.attribute[0].t
    changed = False
    own: dict[str, str] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            tensor = outer.get(name) if name in shared else None
            if tensor is not None and tensor is known[name] and math.prod(tensor.dims) <= _SMALL:
                node.input[place] = own.setdefault(name, f"{name}/{number()}")
        for body in _bodies(node):
            changed |= _own(body, known, shared, number)
    for name, new in own.items():
        graph.initializer.append(outer[name])
        graph.initializer[-1].name = new
    return changed or bool(own)


def _used(graph: GraphProto) -> set[str]:
    return {name for node in graph.node for name in node.input}


def _bodies(node: NodeProto) -> list[GraphProto]:
    return [each.g for each in node.attribute if each.HasField("g")]


def _may_be_both(sides: Sequence[GraphProto], constants: Container[str]) -> bool:
    """Whether both may be computed, and give values of the same sizes."""
    one, other = sides
    return (
        [_sizes(each) for each in one.output] == [_sizes(each) for each in other.output]
        and all(map(_sizes, [*one.output, *other.output]))
        and not any(_bodies(node) for side in sides for node in side.node)
        and not any(
            node.op_type.startswith(("Gather", "Scatter")) and node.input[1] not in constants
            for side in sides
            for node in side.node
        )
    )


def _sizes(value: onnx.ValueInfoProto) -> list[int | str]:
    """Empty if one is not known; of a number it is one that no tensor has."""
    held = value.type.tensor_type
    if not held.HasField("shape"):
        return []
    found = [each.dim_param or each.dim_value for each in held.shape.dim]
    return [] if not all(found) and 0 in found else [-1, *found]


def _both(node: NodeProto) -> Iterator[NodeProto]:
    then, other = sorted((each for each in node.attribute), key=lambda a: a.name == "else_branch")
    given: list[list[str]] = []
    for side in (then.g, other.g):
        own = {name for inner in side.node for name in inner.output}
        own |= {each.name for each in side.initializer}
        new = {name: f"{node.output[0]}/{side.name}/{name}" for name in own if name}
        for each in side.initializer:
            yield helper.make_node("Constant", [], [new[each.name]], new[each.name], value=each)
        for inner in side.node:
            inner.input[:] = [new.get(name, name) for name in inner.input]
            inner.output[:] = [new.get(name, name) for name in inner.output]
            yield inner
        given.append([new.get(each.name, each.name) for each in side.output])
    for one, two, output, like in zip(*given, node.output, then.g.output, strict=True):
        is_truth = like.type.tensor_type.elem_type == TensorProto.BOOL
        *parts, chosen = (_chosen_truth if is_truth else _chosen)(node.input[0], one, two, output)
        stand_for(chosen, node)
        if output != node.output[0]:
            chosen.name += f"/{output}"
        yield from (*parts, chosen)


def _chosen(condition: str, one: str, other: str, output: str) -> list[NodeProto]:
    return [helper.make_node("Where", [condition, one, other], [output])]


def _chosen_truth(condition: str, one: str, other: str, output: str) -> list[NodeProto]:
    """Without ``Where``, of which ONNX Runtime has none of bools."""
    either = [f"{output}/{part}" for part in ("not", "one", "other")]
    return [
        helper.make_node("Not", [condition], either[:1], either[0]),
        helper.make_node("And", [condition, one], either[1:2], either[1]),
        helper.make_node("And", [either[0], other], either[2:], either[2]),
        helper.make_node("Or", either[1:], [output]),
    ]

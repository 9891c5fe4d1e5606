"""Branches as TensorRT-RTX takes them: 1.7.1 fails by itself on some that ONNX has.

Its importer makes the layer of a constant where that is used first, be it in a side of a branch,
which another side cannot always read ("mScopedOp2Scopes"; seen of bools). A branch within a branch
fails in its compiler ("CHECK(static_cast<size_t>(i) < op->input_size())").
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper

from edgeport.deploy.compilers.onnx_files.onnx_messages import (
    attributes_of,
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

    It is where neither side has a loop, which may not end. Places that are computed are kept within
    what they are of, as those of the side that is not chosen may be nowhere.

    Returns:
        Whether there was one.
    """
    if not any(node.op_type == "If" for node in of_kind("NodeProto", model.graph)):
        return False
    known = _Known.of(model)
    changed: list[str] = []

    def within(graph: GraphProto, is_side: bool) -> None:
        def written(node: NodeProto) -> Sequence[NodeProto]:
            sides = _bodies(node)
            for each in sides:
                within(each, is_side or node.op_type == "If")
            is_nested = is_side and node.op_type == "If"
            if not is_nested or not _may_be_both(node, sides, known):
                return (node,)
            changed.append(node.name)
            return [*_both(node, known)]

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


@dataclass(frozen=True, slots=True)
class _Known:
    """Of the values of a model.

    Attributes:
        ranks: How many axes they have.
        last: How long the last is.
        within: Constants, and what is kept within what it is a place of.
    """

    ranks: Mapping[str, int | None]
    last: Mapping[str, int | None]
    within: set[str]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> "_Known":
        asked = [node.input[0] for node in of_kind("NodeProto", model.graph) if node.input]
        typed = described(model, asked)
        return cls(ranks_of(typed), _last_of(typed), {*constants_by_name(model)})

    def places(self, node: NodeProto) -> str:
        """What a node computes the places by that it takes from or writes to, if it does."""
        is_one = node.op_type.startswith(("Gather", "Scatter"))
        return node.input[1] if is_one and node.input[1] not in self.within else ""

    def has(self, places: str, node: NodeProto) -> bool:
        """Whether enough is known to keep them within what they are of."""
        is_nd = node.op_type.endswith("ND")
        return bool(self.last.get(places)) if is_nd else self.ranks.get(places) is not None


def _last_of(model: onnx.ModelProto) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for graph in graphs(model):
        for value in (*graph.value_info, *graph.input, *graph.output):
            if dims := value.type.tensor_type.shape.dim:
                size = dims[-1].dim_value or None
                found[value.name] = size if found.get(value.name, size) == size else None
    return found


def _may_be_both(node: NodeProto, sides: Sequence[GraphProto], known: _Known) -> bool:
    """Whether both may be computed, and give values of the same sizes."""
    one, other = sides
    return (
        known.ranks.get(node.input[0]) == 0
        and [_sizes(each) for each in one.output] == [_sizes(each) for each in other.output]
        and all(map(_sizes, [*one.output, *other.output]))
        and not any(_bodies(each) for side in sides for each in side.node)
        and all(
            known.has(places, each)
            for side in sides
            for each in side.node
            if (places := known.places(each))
        )
    )


def _sizes(value: onnx.ValueInfoProto) -> list[int | str]:
    """Empty if one is not known; of a number it is one that no tensor has."""
    held = value.type.tensor_type
    if not held.HasField("shape"):
        return []
    found = [each.dim_param or each.dim_value for each in held.shape.dim]
    return [] if not all(found) and 0 in found else [-1, *found]


def _both(node: NodeProto, known: _Known) -> Iterator[NodeProto]:
    then, other = sorted((each for each in node.attribute), key=lambda a: a.name == "else_branch")
    given: list[list[str]] = []
    for side in (then.g, other.g):
        own = {name for inner in side.node for name in inner.output}
        own |= {each.name for each in side.initializer}
        new = {name: f"{node.output[0]}/{side.name}/{name}" for name in own if name}
        known.within.update(new[name] for name in known.within & new.keys())
        for each in side.initializer:
            yield helper.make_node("Constant", [], [new[each.name]], new[each.name], value=each)
        for inner in side.node:
            asked = known.places(inner)
            inner.input[:] = [new.get(name, name) for name in inner.input]
            inner.output[:] = [new.get(name, name) for name in inner.output]
            if asked:
                yield from _kept_within(inner, known, asked)
            yield inner
        given.append([new.get(each.name, each.name) for each in side.output])
    for one, two, output, like in zip(*given, node.output, then.g.output, strict=True):
        is_truth = like.type.tensor_type.elem_type == TensorProto.BOOL
        *parts, chosen = (_chosen_truth if is_truth else _chosen)(node.input[0], one, two, output)
        stand_for(chosen, node)
        if output != node.output[0]:
            chosen.name += f"/{output}"
        yield from (*parts, chosen)


def _kept_within(node: NodeProto, known: _Known, asked: str) -> Iterator[NodeProto]:
    """Bounds of the places that a node takes from or writes to, from -n to n - 1.

    Args:
        node: Which has them.
        known: Of the model.
        asked: What it called the places there.
    """
    places = node.input[1]
    last = places

    def made(operator: str, *inputs: str, **attributes: Any) -> NodeProto:
        nonlocal last
        last = f"{places}/{operator}/{node.output[0]}"
        return helper.make_node(operator, inputs, [last], last, **attributes)

    given = attributes_of(node)
    is_nd = node.op_type.endswith("ND")
    start = given.get("batch_dims" if is_nd else "axis", 0)
    end = start + (known.last[asked] or 0 if is_nd else 1)
    yield made("Shape", node.input[0], start=start, **({"end": end} if end else {}))
    if known.ranks[asked] == 0:
        yield made("Squeeze", last)
    size = last
    yield made("Constant", value_int=1)
    yield made("Sub", size, last)
    most = last
    yield made("Neg", size)
    least = last
    yield made("Cast", places, to=TensorProto.INT64)
    yield made("Max", last, least)
    yield made("Min", last, most)
    node.input[1] = last
    known.within.add(last)


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

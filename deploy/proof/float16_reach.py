"""Which values of an ONNX file in float32 float16 does not hold, and the nodes that meet them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from onnx import NodeProto, TensorProto, helper

from edgeport.deploy.compilers.onnx_files.onnx_messages import described, dtypes_of, of_kind
from edgeport.runtimes.inputs import Array

from .localiser.onnx_run import OnnxFile, open_outputs

_LOST: Final = 2.0**-16
"""Of the square of a value's norm: rounding takes about 2^-24 of it."""
_NORMAL: Final = 2.0**-14
"""The smallest number that float16 holds with all of its bits."""
_STEEP: Final = ("Div", "Log", "Pow", "Reciprocal", "Sqrt")
"""Operators that make much of little: to them each number matters, however large others are."""

_ZERO: Final = "edgeport/zero"
_SMALLEST: Final = "edgeport/normal"

_Found: TypeAlias = tuple[set[str], set[str]]
"""Values that float16 loses as a whole, and those of which it loses small numbers."""


def nodes_beyond_float16(path: Path, inputs: Sequence[Mapping[str, Array]]) -> list[str]:
    """Names of the nodes that make or take what float16 does not hold, on these inputs.

    Within branches and loops only what they take from outside is looked at.

    Raises:
        EngineError: ONNX Runtime refused the file.
    """
    file = OnnxFile.read(path)
    nodes = list(of_kind("NodeProto", file.model.graph))
    lost, small = _of_weights(file)
    for name, missing, whole, count in _measured(file, inputs):
        lost |= {name} if missing > _LOST * whole else set()
        small |= {name} if count else set()
    lost |= {name for n in nodes if n.op_type in _STEEP for name in n.input if name in small}
    return [
        node.name
        for node in nodes
        if lost & {*node.input, *node.output} and not any(a.HasField("g") for a in node.attribute)
    ]


def _measured(
    file: OnnxFile, inputs: Sequence[Mapping[str, Array]]
) -> Iterator[tuple[str, float, float, float]]:
    """Of each value of floats on each input: its name, and what ``_measuring`` measures."""
    graph = file.model.graph
    dtypes = dtypes_of(described(file.model, (name for n in graph.node for name in n.output)))
    values = [*(entry.name for entry in graph.input), *(o for n in graph.node for o in n.output)]
    floats = [name for name in values if dtypes.get(name) == TensorProto.FLOAT]
    graph.initializer.extend(
        helper.make_tensor(name, TensorProto.FLOAT, [], [value])
        for name, value in ((_ZERO, 0.0), (_SMALLEST, _NORMAL))
    )
    graph.node.extend([each for name in floats for each in _measuring(name)])
    asked = [f"{name}/{what}" for name in floats for what in ("lost", "whole", "small")]
    with open_outputs(file, asked) as session:
        for given in inputs:
            feed = {entry.name: given[entry.name] for entry in session.get_inputs()}
            figures = np.array(session.run(asked, feed), np.float64).reshape(-1, 3)
            for name, (missing, whole, count) in zip(floats, figures.tolist(), strict=True):
                yield name, missing, whole, count


def _of_weights(file: OnnxFile) -> _Found:
    lost: set[str] = set()
    small: set[str] = set()
    for tensor in file.model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = file.weight(tensor)
            values = values[np.isfinite(values)].astype(np.float64)
            with np.errstate(over="ignore"):
                missing = np.square(values - values.astype(np.float16)).sum()
            if missing > _LOST * np.square(values).sum():
                lost.add(tensor.name)
            if np.any((values != 0) & (np.abs(values) < _NORMAL)):
                small.add(tensor.name)
    return lost, small


def _measuring(name: str) -> Iterator[NodeProto]:
    """Nodes that add up the squares of a value, those of what float16 loses, and small numbers."""

    def node(operator: str, takes: Sequence[str], makes: str, **attributes: Any) -> NodeProto:
        own = [given.get(each) or f"{name}/{each}" for each in takes]
        return helper.make_node(operator, own, [f"{name}/{makes}"], **attributes)

    given = {"value": name, "zero": _ZERO, "normal": _SMALLEST}
    yield node("Sub", ["value", "value"], "nothing")  # NaN of NaN and Inf
    yield node("Equal", ["nothing", "zero"], "counts")
    yield node("Where", ["counts", "value", "zero"], "finite")
    yield node("Cast", ["finite"], "half", to=TensorProto.FLOAT16)
    yield node("Cast", ["half"], "held", to=TensorProto.DOUBLE)
    yield node("Cast", ["finite"], "exact", to=TensorProto.DOUBLE)
    yield node("Sub", ["exact", "held"], "error")
    yield node("ReduceSumSquare", ["error"], "lost", keepdims=0)
    yield node("ReduceSumSquare", ["exact"], "whole", keepdims=0)
    yield node("Abs", ["finite"], "size")
    yield node("Less", ["size", "normal"], "below")
    yield node("Greater", ["size", "zero"], "above")
    yield node("And", ["below", "above"], "between")
    yield node("Cast", ["between"], "counted", to=TensorProto.DOUBLE)
    yield node("ReduceSumSquare", ["counted"], "small", keepdims=0)

"""Faults of one layer each, for ``bench_localiser.py``."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from scripts.faults.graph_edits import copied

Floats = NDArray[np.floating]

_REPLACED: Final = {
    "Relu": "Abs",
    "Sigmoid": "HardSigmoid",
    "Tanh": "Softsign",
    "Add": "Sub",
    "Sub": "Add",
    "Mul": "Div",
    "MaxPool": "AveragePool",
    "ReduceMean": "ReduceMax",
    "Exp": "Softplus",
}
"""Operators with the same signature; a wrong translation looks like this."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A broken model.

    Attributes:
        kind: What was done.
        node: To which node, or to a weight of which.
        modules: Whose it is: of the node by the exporter's notes, of the weight by its name.
    """

    kind: str
    node: str
    modules: tuple[str, ...]
    model: onnx.ModelProto


def faults(model: onnx.ModelProto, debug_map: str) -> Iterator[Fault]:
    """Break each weight and each node in every way that fits it."""
    modules = {node["node"]: node["module"] for node in json.loads(debug_map)["nodes"]}
    used: set[str] = set()
    for index, node in enumerate(model.graph.node):
        own = modules.get(node.name)
        parts = [owner for owner in map(_owner, node.input) if owner is not None]
        for tensor_index, tensor in enumerate(model.graph.initializer):
            if tensor.name not in node.input or tensor.name in used:
                continue
            if sum(tensor.name in other.input for other in model.graph.node) > 1:
                continue  # shared by two layers
            used.add(tensor.name)
            owner = _owner(tensor.name)
            names = tuple(dict.fromkeys(n for n in (owner, own) if n is not None))
            for kind, change in _weights(tensor):
                broken = copied(model)
                array = change(numpy_helper.to_array(tensor)).astype(np.float32)
                found = numpy_helper.from_array(np.ascontiguousarray(array), tensor.name)
                broken.graph.initializer[tensor_index].CopyFrom(found)
                yield Fault(kind, node.name, names, broken)
        if own is None:
            continue
        for kind, edit in _edits(node):
            broken = copied(model)
            edit(broken.graph.node[index])
            yield Fault(kind, node.name, (own, *dict.fromkeys(parts)), broken)


def _owner(name: str) -> str | None:
    """The module whose weight an initializer is, by the name that the exporter gave it."""
    path = name.removeprefix("module.").rpartition(".")[0]
    return path if name.startswith("module.") and path else None


def _weights(tensor: onnx.TensorProto) -> Iterator[tuple[str, Callable[[Floats], Floats]]]:
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return
    dims = [*tensor.dims]
    if len(dims) == 1 and dims[0] > 1:
        yield "bias dropped", np.zeros_like
    if len(dims) < 2:
        yield "vector or constant off by 1 %", lambda array: array * 1.01
        return
    yield "weight scaled by 0.01", lambda array: array * 0.01
    yield "weight off by 0.1 %", lambda array: array * 1.001
    yield "weight rounded to float16", lambda array: array.astype(np.float16)
    yield "one element doubled", _one_doubled
    if dims[0] == dims[1]:
        yield "square weight transposed", lambda array: array.swapaxes(0, 1)


def _one_doubled(array: Floats) -> Floats:
    changed = array.copy()
    changed.reshape(-1)[changed.size // 2] *= 2
    return changed


def _edits(node: onnx.NodeProto) -> Iterator[tuple[str, Callable[[onnx.NodeProto], None]]]:
    if node.op_type in _REPLACED:
        yield "another operator", _replace
    names = {attribute.name for attribute in node.attribute}
    if "epsilon" in names:
        yield "epsilon times 100", _raise_epsilon
    if "pads" in names:
        yield "padding moved by one", _move_padding
    if "axis" in names and node.op_type in ("Softmax", "LogSoftmax"):
        yield "another axis", _move_axis
    if node.op_type == "Gelu":
        yield "another approximation", _other_gelu
    if "perm" in names:
        yield "axes swapped", _swap_axes
    if node.op_type in ("Sub", "Div"):
        yield "operands swapped", _swap_operands


def _replace(node: onnx.NodeProto) -> None:
    node.op_type = _REPLACED[node.op_type]


def _attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    found: onnx.AttributeProto = next(each for each in node.attribute if each.name == name)
    return found


def _raise_epsilon(node: onnx.NodeProto) -> None:
    _attribute(node, "epsilon").f *= 100


def _move_axis(node: onnx.NodeProto) -> None:
    _attribute(node, "axis").i = 1


def _move_padding(node: onnx.NodeProto) -> None:
    pads = _attribute(node, "pads").ints
    half = len(pads) // 2
    if pads[half - 1]:
        pads[half - 1], pads[-1] = pads[half - 1] - 1, pads[-1] + 1


def _other_gelu(node: onnx.NodeProto) -> None:
    found = [attribute for attribute in node.attribute if attribute.name == "approximate"]
    tanh = bool(found) and found[0].s == b"tanh"
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("approximate", "none" if tanh else "tanh"))


def _swap_axes(node: onnx.NodeProto) -> None:
    perm = _attribute(node, "perm").ints
    perm[-1], perm[-2] = perm[-2], perm[-1]


def _swap_operands(node: onnx.NodeProto) -> None:
    node.input[0], node.input[1] = node.input[1], node.input[0]

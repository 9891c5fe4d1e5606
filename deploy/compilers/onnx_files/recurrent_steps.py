"""LSTM and GRU written out: a ``Scan`` over time of what each step computes.

So each value of a step can be rounded, and not only what comes out in the end; and its gates can
be more exact than those of an engine's kernel.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from .onnx_messages import attributes_of, graphs, of_kind, rewrite

_Step: TypeAlias = Callable[["_Writer", Sequence[str], Sequence[str], Sequence[str]], list[str]]
"""Gates of the input, gates of the hidden state, the states -> the next states, of which the first
is what comes out."""

_BACK: Final[Mapping[bytes, Sequence[int]]] = {
    b"forward": (0,),
    b"reverse": (1,),
    b"bidirectional": (0, 1),
}
"""Of each direction, whether it goes back in time."""

_READ: Final = ("hidden_size", "direction")
_USUAL: Final = {"layout": 0, "input_forget": 0, "linear_before_reset": 1}
"""Attributes as torch's layers have them."""


def write_out_steps(model: onnx.ModelProto, operator: str) -> None:
    """Put steps in the place of each ``LSTM`` or ``GRU``.

    Those that are unlike torch's layers stay: with lengths, peepholes, or other activations.

    Args:
        model: It tells the dtypes of its values, as those that ONNX Runtime's converter makes do.
        operator: Which of the two.
    """
    dtypes = {
        value.name: value.type.tensor_type.elem_type for value in of_kind("ValueInfoProto", model)
    }
    for graph in graphs(model):
        rewrite(graph, partial(_in_steps, graph, operator, dtypes))


def _in_steps(
    graph: onnx.GraphProto, operator: str, dtypes: Mapping[str, int], node: NodeProto
) -> Sequence[NodeProto]:
    dtype = max((dtypes.get(name, 0) for name in node.output), default=0)
    if node.op_type != operator or not dtype or not is_usual(node):
        return [node]
    put = _Writer(node.name, next(filter(None, node.output)), dtype)
    _write_layer(put, node)
    for made in put.nodes:
        made.metadata_props.extend(node.metadata_props)
    graph.initializer.extend(put.constants)
    graph.value_info.extend(put.types)
    return put.nodes


def is_usual(node: NodeProto) -> bool:
    """Whether an ``LSTM`` or ``GRU`` is as torch has it, but over no packed sequences."""
    inputs = dict(enumerate(node.input))
    lengths, h, c, peepholes = (inputs.get(place) for place in (4, 5, 6, 7))
    given = attributes_of(node)
    same = all(given[name] == _USUAL.get(name) for name in given if name not in _READ)
    complete = h and (c if node.op_type == "LSTM" else "linear_before_reset" in given)
    return bool(complete) and same and not lengths and not peepholes


def _write_layer(put: "_Writer", node: NodeProto) -> None:
    backward = _BACK[attributes_of(node).get("direction", b"forward")]
    made = [_one_way(put, node, index, back) for index, back in enumerate(backward)]
    for name, axis, parts in zip(node.output, (1, 0, 0), zip(*made, strict=True), strict=False):
        if name:
            axes = put.constant([axis])
            put.node("Concat", [put("Unsqueeze", part, axes) for part in parts], [name], axis=axis)


def _one_way(put: "_Writer", node: NodeProto, index: int, back: int) -> list[str]:
    """One direction: what comes out, (T, B, H), and the last states, (B, H) each."""
    step, gates = _STEPS[node.op_type]
    size = attributes_of(node)["hidden_size"]
    own = put.constant(index)
    w, r, *biases = (put("Gather", name, own, axis=0) for name in node.input[1:4] if name)
    states = [put("Gather", name, own, axis=0) for name in node.input[5:7]]
    biases = put.split(biases[0], [gates * size] * 2, axis=0) if biases else []
    x = put("MatMul", node.input[0], put("Transpose", w, perm=(1, 0)))
    for bias in biases[:1]:
        x = put("Add", x, bias)

    inner = _Writer(node.name, x, put.dtype)
    *now, added = (inner.name() for _ in (*states, x))
    hidden = inner("Gemm", now[0], r, *biases[1:], transB=1)
    x_gates, h_gates = (inner.split(each, [size] * gates) for each in (added, hidden))
    later = step(inner, x_gates, h_gates, now)
    later.append(inner("Identity", later[0]))

    *last, out = names = [put.name() for _ in later]
    put.node(
        "Scan",
        [*states, x],
        names,
        body=inner.graph(inputs=[*now, added], outputs=later),
        num_scan_inputs=1,
        scan_input_directions=[back],
        scan_output_directions=[back],
    )
    return [out, *last]


def _lstm(put: "_Writer", x: Sequence[str], h: Sequence[str], states: Sequence[str]) -> list[str]:
    enters, leaves, keeps, new = (put("Add", *pair) for pair in zip(x, h, strict=True))
    kept = put("Mul", put("Sigmoid", keeps), states[1])
    c = put("Add", kept, put("Mul", put("Sigmoid", enters), put("Tanh", new)))
    return [put("Mul", put("Sigmoid", leaves), put("Tanh", c)), c]


def _gru(put: "_Writer", x: Sequence[str], h: Sequence[str], states: Sequence[str]) -> list[str]:
    keeps, resets = (put("Sigmoid", put("Add", x[gate], h[gate])) for gate in (0, 1))
    new = put("Tanh", put("Add", x[2], put("Mul", resets, h[2])))
    return [put("Add", new, put("Mul", keeps, put("Sub", states[0], new)))]


_STEPS: Final[Mapping[str, tuple[_Step, int]]] = {"GRU": (_gru, 3), "LSTM": (_lstm, 4)}
"""Of each operator, and how many gates it has, in the order of ONNX."""


class _Writer:
    """Nodes of one graph, whose values have all one dtype.

    Args:
        node: The name of each node: that of the layer, by which a refusal finds it.
        prefix: Of the names of values.
        dtype: Of ONNX.
    """

    def __init__(self, node: str, prefix: str, dtype: int) -> None:
        self._node, self._prefix = node, prefix
        self.dtype = dtype
        self.nodes: list[NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.types: list[onnx.ValueInfoProto] = []

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and name that."""
        name = self.name()
        self.node(operator, inputs, [name], **attributes)
        return name

    def node(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> None:
        """Add a node."""
        self.nodes.append(
            helper.make_node(operator, inputs, outputs, f"{self._node}/{outputs[0]}", **attributes)
        )

    def split(self, value: str, sizes: Sequence[int], axis: int = -1) -> list[str]:
        """Cut a value."""
        names = [self.name() for _ in sizes]
        self.node("Split", [value, self.constant(sizes)], names, axis=axis)
        return names

    def name(self) -> str:
        """One for a new value."""
        self.types.append(self._type(f"{self._prefix}/{len(self.types)}"))
        return self.types[-1].name

    def constant(self, values: int | Sequence[int]) -> str:
        """Whole numbers."""
        name = f"{self._prefix}/constant/{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def graph(self, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.GraphProto:
        """All of it."""
        return helper.make_graph(
            self.nodes,
            f"step of {self._node}",
            [*map(self._type, inputs)],
            [*map(self._type, outputs)],
            self.constants,
            value_info=self.types,
        )

    def _type(self, name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, self.dtype, None)

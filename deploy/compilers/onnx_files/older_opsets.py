"""ONNX in the words of an older opset than torch's newer exporter writes, which begins at 18.

ONNX's own version converter has no way from 18 to 17 for ``Pad``, ``Split`` and reductions as the
exporter writes them, and forgets what a node was made from. Whether an operator of the same name
still means the same is for the proof, which runs the file.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .onnx_messages import attributes_of, constants_by_name, graphs, rewrite

_Constants: TypeAlias = Mapping[str, onnx.TensorProto | None]


class OlderOpsetError(ValueError):
    """The opset that was asked for has not what the module needs."""


def lower(model: onnx.ModelProto, opset: int) -> None:
    """Rewrite a model, in the bodies of branches and loops too.

    Args:
        model: Changed, if its opset is newer.
        opset: Of the standard operators.

    Raises:
        OlderOpsetError: It has not what the model needs.
    """
    (entry,) = (each for each in model.opset_import if not each.domain)
    if entry.version <= opset:
        return
    constants = constants_by_name(model)
    for graph in graphs(model):
        rewrite(graph, partial(_lowered, entry.version, opset, constants))
    entry.version = opset


def _lowered(
    newer: int, opset: int, constants: _Constants, node: onnx.NodeProto
) -> Sequence[onnx.NodeProto]:
    """Nodes in place of one, or the same one, changed."""
    if node.domain:
        return [node]
    known, asked = _schema(node, newer), _schema(node, opset)
    if asked is not None and asked.since_version == known.since_version:
        return [node]
    if node.op_type in _WRITTEN_OUT and _lacks(node, asked):
        return [*_WRITTEN_OUT[node.op_type](node, constants)]
    if asked is None:
        raise OlderOpsetError(f"ONNX opset {opset} has no {node.op_type}")
    if "axes" in asked.attributes and len(node.input) > 1:
        _hold_axes(node, opset, constants)
    for attribute in list(node.attribute):
        if attribute.s in _SINCE_18:
            raise OlderOpsetError(
                f"{node.op_type} takes no {attribute.s.decode()} in ONNX opset {opset}"
            )
        if attribute.name not in asked.attributes:
            if not _says_nothing(node, attribute, known, constants):
                raise OlderOpsetError(
                    f"{node.op_type} has no {attribute.name} in ONNX opset {opset}"
                )
            node.attribute.remove(attribute)
    if len(node.input) > asked.max_input:
        names = ", ".join(each.name for each in known.inputs[asked.max_input :])
        raise OlderOpsetError(f"{node.op_type} takes no {names} in ONNX opset {opset}")
    return [node]


def _schema(node: onnx.NodeProto, opset: int) -> Any:
    try:
        return onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return None


def _lacks(node: onnx.NodeProto, asked: Any) -> bool:
    return asked is None or any(each.name not in asked.attributes for each in node.attribute)


def _says_nothing(
    node: onnx.NodeProto, attribute: onnx.AttributeProto, known: Any, constants: _Constants
) -> bool:
    """Whether the node does the same without it."""
    match node.op_type, attribute.name:
        case "Split", "num_outputs":
            return True  # its outputs say it
        case "Reshape", "allowzero":
            shape = constants.get(node.input[1])
            if shape is not None and numpy_helper.to_array(shape).all():
                return True
    default = known.attributes[attribute.name].default_value
    given = [helper.get_attribute_value(each) for each in (attribute, default) if each.type]
    return len(given) == 2 and bool(given[0] == given[1])


def _hold_axes(node: onnx.NodeProto, opset: int, constants: _Constants) -> None:
    """Axes in an attribute, where they were an input."""
    tensor = constants.get(node.input[1])
    if tensor is None:
        raise OlderOpsetError(f"{node.op_type} takes fixed axes alone in ONNX opset {opset}")
    del node.input[1:]
    if axes := numpy_helper.to_array(tensor).tolist():
        node.attribute.append(helper.make_attribute("axes", axes))


def _layer_normalization(node: onnx.NodeProto, constants: _Constants) -> Iterator[onnx.NodeProto]:
    given = attributes_of(node)
    x, scale, *bias = filter(None, node.input)
    axis, weights = given.get("axis", -1), constants.get(scale)
    if len(node.output) > 1 or axis >= 0 or weights is None:
        raise OlderOpsetError("LayerNormalization is written out with fixed weights alone")
    dtype = helper.tensor_dtype_to_np_dtype(weights.data_type)
    epsilon = numpy_helper.from_array(np.array(given.get("epsilon", 1e-5), dtype))
    axes = [*range(axis, 0)]
    made = _Parts(node.output[0])
    yield made("ReduceMean", "mean", x, axes=axes)
    yield made("Sub", "left", x, "/mean")
    yield made("Mul", "squares", "/left", "/left")
    yield made("ReduceMean", "variance", "/squares", axes=axes)
    yield made("Constant", "epsilon", value=epsilon)
    yield made("Add", "more", "/variance", "/epsilon")
    yield made("Sqrt", "deviation", "/more")
    yield made("Div", "normal", "/left", "/deviation")
    yield made("Mul", "scaled" if bias else "", "/normal", scale)
    if bias:
        yield made("Add", "", "/scaled", *bias)


def _mish(node: onnx.NodeProto, constants: _Constants) -> Iterator[onnx.NodeProto]:
    made = _Parts(node.output[0])
    yield made("Softplus", "softplus", node.input[0])
    yield made("Tanh", "tanh", "/softplus")
    yield made("Mul", "", node.input[0], "/tanh")


def _hard_swish(node: onnx.NodeProto, constants: _Constants) -> Iterator[onnx.NodeProto]:
    made = _Parts(node.output[0])
    yield made("HardSigmoid", "sigmoid", node.input[0], alpha=1 / 6, beta=0.5)
    yield made("Mul", "", node.input[0], "/sigmoid")


def _shape(node: onnx.NodeProto, constants: _Constants) -> Iterator[onnx.NodeProto]:
    given = attributes_of(node)
    ends = given.get("start", 0), given.get("end", np.iinfo(np.int64).max)
    made = _Parts(node.output[0])
    yield made("Shape", "whole", node.input[0])
    for name, end in zip(("start", "end"), ends, strict=True):
        yield made("Constant", name, value=numpy_helper.from_array(np.array([end])))
    yield made("Slice", "", "/whole", "/start", "/end")


class _Parts:
    """Nodes that together make a value, called after it.

    Args:
        name: Of the value, which is made by the part without a name.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, kind: str, part: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
        """One node; an input that begins with ``/`` is a part."""
        given = [f"{self._name}{each}" if each.startswith("/") else each for each in inputs]
        output = f"{self._name}/{part}" if part else self._name
        return helper.make_node(kind, given, [output], output, **attributes)


_SINCE_18: Final = (b"max", b"min")
"""What is scattered to one place was added or multiplied before."""

_WRITTEN_OUT: Final[
    Mapping[str, Callable[[onnx.NodeProto, _Constants], Iterator[onnx.NodeProto]]]
] = {
    "HardSwish": _hard_swish,
    "LayerNormalization": _layer_normalization,
    "Mish": _mish,
    "Shape": _shape,
}
"""Operators that an older opset lacks, or has not all of, in its words."""

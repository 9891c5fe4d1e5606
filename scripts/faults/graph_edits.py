"""Copies of an ONNX model that are altered in one place; the model itself is left as it is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeport.runtimes.inputs import Array

Altered: TypeAlias = tuple[str, onnx.ModelProto]
"""What was altered, and the altered copy."""

Injector: TypeAlias = Callable[[onnx.ModelProto, np.random.Generator], Iterator[Altered]]

FLOATS: Final = (TensorProto.FLOAT,)


def some_of(found: Sequence[Any], generator: np.random.Generator, most: int) -> list[Any]:
    """At most so many, drawn."""
    if len(found) <= most:
        return list(found)
    return [found[int(place)] for place in generator.choice(len(found), most, replace=False)]


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def nodes_of(model: onnx.ModelProto, *operators: str) -> list[tuple[int, onnx.NodeProto]]:
    return [(i, node) for i, node in enumerate(model.graph.node) if node.op_type in operators]


def weights_of(model: onnx.ModelProto, rank: int = 1) -> list[str]:
    """Names of the float constants that have something to alter."""
    found = []
    for name, tensor in constants_of(model).items():
        if tensor.data_type in FLOATS and len(tensor.dims) >= rank and np.prod(tensor.dims) > 1:
            array = numpy_helper.to_array(tensor)
            if np.isfinite(array).all() and array.any():
                found.append(name)
    return found


def biases_of(model: onnx.ModelProto) -> list[str]:
    places = {"Gemm": 2, "Conv": 2, "ConvTranspose": 2, "LayerNormalization": 2, "LSTM": 3}
    ends = {name for _, n in nodes_of(model, *places) for name in n.input[places[n.op_type] :][:1]}
    sums = {name for _, node in nodes_of(model, "Add") for name in node.input}
    return [name for name in weights_of(model) if name in ends | sums]


def values_of(model: onnx.ModelProto) -> list[str]:
    """Names of float values that are computed, inputs of the model among them."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    used = {name for node in model.graph.node for name in node.input}
    return [
        value.name
        for value in (*inferred.input, *inferred.value_info)
        if value.type.tensor_type.elem_type in FLOATS
        and value.name in used
        and found_constant(model, value.name) is None
        and len(value.type.tensor_type.shape.dim) > 0
    ]


def constants_of(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for _, node in nodes_of(model, "Constant"):
        for attribute in node.attribute:
            if attribute.name == "value":
                found[node.output[0]] = attribute.t
    return found


def found_constant(model: onnx.ModelProto, name: str) -> Array | None:
    tensor = constants_of(model).get(name)
    return None if tensor is None else numpy_helper.to_array(tensor)


def constant(model: onnx.ModelProto, name: str) -> Array:
    return numpy_helper.to_array(constants_of(model)[name])


def set_constant(model: onnx.ModelProto, name: str, array: Array) -> None:
    tensor = constants_of(model)[name]
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))


def with_constant(model: onnx.ModelProto, name: str, array: Array) -> onnx.ModelProto:
    altered = copied(model)
    set_constant(altered, name, array)
    return altered


def attribute_of(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    found = [helper.get_attribute_value(a) for a in node.attribute if a.name == name]
    return found[0] if found else default


def with_attribute(model: onnx.ModelProto, index: int, name: str, value: Any) -> onnx.ModelProto:
    altered = copied(model)
    node = altered.graph.node[index]
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])
    return altered


def with_input(model: onnx.ModelProto, index: int, place: int, array: Array) -> onnx.ModelProto:
    """The node reads a constant of its own at this place; other users keep theirs."""
    altered = copied(model)
    name = f"altered_{index}_{place}"
    altered.graph.initializer.append(numpy_helper.from_array(array, name))
    altered.graph.node[index].input[place] = name
    return altered


def with_operator(
    model: onnx.ModelProto, index: int, kind: str, attributes: Mapping[str, Any], inputs: int
) -> onnx.ModelProto:
    altered = copied(model)
    node = altered.graph.node[index]
    made = helper.make_node(kind, node.input[:inputs], node.output[:1], **attributes)
    node.CopyFrom(made)
    return altered


def put_between(
    model: onnx.ModelProto,
    name: str,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Any],
) -> onnx.ModelProto:
    """Put nodes behind a value; what read it now reads ``NAME_narrow``."""
    altered = copied(model)
    for node in altered.graph.node:
        node.input[:] = [f"{name}_narrow" if used == name else used for used in node.input]
    made = [place for place, node in enumerate(altered.graph.node) if name in node.output]
    for node in reversed(nodes):
        altered.graph.node.insert(made[0] + 1 if made else 0, node)
    altered.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), constant)
        for constant, array in constants.items()
    )
    return altered

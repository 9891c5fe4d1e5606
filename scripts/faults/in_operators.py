"""Faults of operators: another attribute, another operator, one left out, one put in between."""

import itertools
from collections.abc import Iterator
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from scripts.faults.graph_edits import (
    Altered,
    attribute_of,
    copied,
    found_constant,
    nodes_of,
    put_between,
    some_of,
    values_of,
    with_attribute,
    with_input,
    with_operator,
)

ACTIVATIONS: Final = {
    "Relu": ("LeakyRelu", {"alpha": 0.01}),
    "LeakyRelu": ("Relu", {}),
    "Sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "Tanh": ("Softsign", {}),
    "Elu": ("Selu", {}),
    "Gelu": ("Relu", {}),
}


def gelu_form(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """GELU by erf for GELU by tanh, or the other way."""
    for index, node in nodes_of(model, "Gelu"):
        other = b"none" if attribute_of(node, "approximate", b"none") == b"tanh" else b"tanh"
        yield f"Gelu {index}", with_attribute(model, index, "approximate", other)


def align_corners(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """Corners of an image aligned where they should not be, or not where they should."""
    mode = "coordinate_transformation_mode"
    for index, node in nodes_of(model, "Resize"):
        aligned = attribute_of(node, mode, b"half_pixel") == b"align_corners"
        other = b"half_pixel" if aligned else b"align_corners"
        yield f"Resize {index}", with_attribute(model, index, mode, other)
    for index, node in nodes_of(model, "GridSample"):
        other_ = 1 - attribute_of(node, "align_corners", 0)
        yield f"GridSample {index}", with_attribute(model, index, "align_corners", other_)


def resize_rounding(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """Coordinates of a resize rounded, or counted, in another way."""
    for index, node in nodes_of(model, "Resize"):
        if attribute_of(node, "mode", b"nearest") == b"nearest":
            for mode in (b"round_prefer_floor", b"ceil"):
                yield f"{mode!r} {index}", with_attribute(model, index, "nearest_mode", mode)
        for mode in (b"asymmetric", b"half_pixel"):
            altered = with_attribute(model, index, "coordinate_transformation_mode", mode)
            if mode != attribute_of(node, "coordinate_transformation_mode", b"half_pixel"):
                yield f"{mode!r} {index}", altered


def norm_epsilon(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """The epsilon of a normalisation of another framework."""
    kinds = ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "LpNormalization")
    for index, node in nodes_of(model, *kinds, "BatchNormalization", "RMSNormalization"):
        for epsilon in (1e-3, 1e-6, 1e-12):
            altered = with_attribute(model, index, "epsilon", epsilon)
            yield f"{node.op_type} {index}: {epsilon:g}", altered


def padding(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """An image one pixel too far to one side."""
    for index, node in nodes_of(model, "Conv", "ConvTranspose", "MaxPool", "AveragePool"):
        pads = attribute_of(node, "pads", [])
        half = len(pads) // 2
        for axis in range(half if any(pads) else 0):
            shifted = [*pads]
            shifted[axis] += 1
            shifted[half + axis] -= 1
            if min(shifted) >= 0:
                detail = f"{node.op_type} {index}, axis {axis}"
                yield detail, with_attribute(model, index, "pads", shifted)
    for index, node in nodes_of(model, "Pad"):
        pads_ = found_constant(model, node.input[1])
        if pads_ is not None and pads_.any():
            half, axis = pads_.size // 2, int(np.argmax(pads_)) % (pads_.size // 2)
            step = np.zeros_like(pads_)
            step[axis], step[half + axis] = 1, -1
            sign = 1 if pads_[half + axis] else -1
            altered = with_input(model, index, 1, pads_ + sign * step)
            yield f"Pad {index}, axis {axis}", altered


def pooled_padding(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """A mean that counts the padding, or does not."""
    for index, node in nodes_of(model, "AveragePool"):
        other = 1 - attribute_of(node, "count_include_pad", 0)
        yield f"AveragePool {index}", with_attribute(model, index, "count_include_pad", other)


def axis(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """An axis off by one."""
    for index, node in nodes_of(model, "Softmax", "LogSoftmax", "Concat", "ArgMax", "Gather"):
        old = attribute_of(node, "axis", 0 if node.op_type in ("Gather", "ArgMax") else -1)
        yield f"{node.op_type} {index}", with_attribute(model, index, "axis", old - 1)
    for index, node in nodes_of(model, "ReduceMean", "ReduceSum", "ReduceMax"):
        axes = found_constant(model, node.input[1]) if len(node.input) > 1 else None
        if axes is not None:
            moved = np.where(axes > 0, axes - 1, np.where(axes < -1, axes + 1, axes - 1))
            yield f"{node.op_type} {index}", with_input(model, index, 1, moved)


def slice_off_by_one(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """A slice, or an index, one place too early or late."""
    for index, node in some_of(nodes_of(model, "Slice"), generator, 4):
        starts, ends = (found_constant(model, node.input[place]) for place in (1, 2))
        if starts is None:
            continue
        for step in (1, -1):
            altered = with_input(model, index, 1, starts + step)
            if ends is not None and np.abs(ends).max() < 2**31 - 1:
                altered = with_input(altered, index, 2, ends + step)
            yield f"Slice {index} by {step}", altered
    for index, node in some_of(nodes_of(model, "Gather"), generator, 3):
        indices = found_constant(model, node.input[1])
        if (
            indices is not None
            and indices.dtype.kind == "i"
            and found_constant(model, node.input[0]) is None
        ):
            yield f"Gather {index}", with_input(model, index, 1, indices + 1)


def concat_order(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """What is joined, joined the other way round."""
    for index, node in some_of(nodes_of(model, "Concat"), generator, 4):
        if len(set(node.input)) > 1:
            altered = copied(model)
            altered.graph.node[index].input[:] = reversed(node.input)
            yield f"Concat {index}", altered


def missing_activation(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """An activation left out."""
    for index, node in some_of(nodes_of(model, *ACTIVATIONS, "PRelu"), generator, 3):
        yield f"{node.op_type} {index}", with_operator(model, index, "Identity", {}, inputs=1)


def other_activation(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """An activation that looks like the right one."""
    for index, node in some_of(nodes_of(model, *ACTIVATIONS), generator, 3):
        kind, attributes = ACTIVATIONS[node.op_type]
        altered = with_operator(model, index, kind, attributes, inputs=1)
        yield f"{kind} for {node.op_type} {index}", altered


def dropped_residual(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """A branch of a sum left out."""
    sums = [
        (index, node)
        for index, node in nodes_of(model, "Add")
        if all(found_constant(model, name) is None for name in node.input)
    ]
    for index, node in some_of(sums, generator, 3):
        altered = with_operator(model, index, "Identity", {}, inputs=1)
        yield f"{node.op_type} {index}", altered


def truncated_division(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """Integers divided towards zero, where the module divides towards minus infinity."""
    made_by = {output: node for node in model.graph.node for output in node.output}
    for index, node in nodes_of(model, "Sub"):
        cast = made_by.get(node.input[1])
        source = made_by.get(cast.input[0]) if cast is not None and cast.op_type == "Cast" else None
        if source is not None and source.op_type == "And":
            yield f"Sub {index}", with_operator(model, index, "Identity", {}, inputs=1)


def swapped_outputs(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """Two outputs of one dtype exchanged."""
    outputs = model.graph.output
    for one, other in itertools.combinations(range(len(outputs)), 2):
        kinds = {outputs[place].type.tensor_type.elem_type for place in (one, other)}
        if len(kinds) == 1:
            names = {outputs[one].name: outputs[other].name, outputs[other].name: outputs[one].name}
            altered = copied(model)
            for node in altered.graph.node:
                node.input[:] = [names.get(name, name) for name in node.input]
                node.output[:] = [names.get(name, name) for name in node.output]
            yield " and ".join(names), altered


def saturating_cast(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """A value that a narrow type cannot hold: clipped on its way."""
    for bound in (1.0, 3.0, 6.0):
        for name in some_of(values_of(model), generator, 1):
            limits = {"fault_low": np.float32(-bound), "fault_high": np.float32(bound)}
            node = helper.make_node("Clip", [name, *limits], [f"{name}_narrow"])
            yield f"{name} to {bound:g}", put_between(model, name, [node], limits)


def float16_value(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """A value rounded to float16 on its way."""
    for name in some_of(values_of(model), generator, 3):
        nodes = [
            helper.make_node("Cast", [name], [f"{name}_half"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", [f"{name}_half"], [f"{name}_narrow"], to=TensorProto.FLOAT),
        ]
        yield name, put_between(model, name, nodes, {})


def first_row_for_all(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """Every row is computed from the first one's value, as after a wrong broadcast."""
    for name in some_of(values_of(model), generator, 2):
        constants = {
            "fault_zero": np.float32(0), "fault_from": np.array([0]), "fault_to": np.array([1]),
        }  # fmt: skip
        nodes = [
            helper.make_node("Mul", [name, "fault_zero"], [f"{name}_zero"]),
            helper.make_node(
                "Slice", [name, "fault_from", "fault_to", "fault_from"], [f"{name}_first"]
            ),
            helper.make_node("Add", [f"{name}_zero", f"{name}_first"], [f"{name}_narrow"]),
        ]
        yield name, put_between(model, name, nodes, constants)


def lost_nan(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """A NaN that becomes a zero on its way."""
    for name in some_of(values_of(model), generator, 2):
        nodes = [
            helper.make_node("IsNaN", [name], [f"{name}_isnan"]),
            helper.make_node("Where", [f"{name}_isnan", "fault_zero", name], [f"{name}_narrow"]),
        ]
        yield name, put_between(model, name, nodes, {"fault_zero": np.float32(0)})

"""Faults of weights and constants: rounded, scaled, clipped, transposed, swapped, stale."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from scripts.faults.graph_edits import (
    Altered,
    attribute_of,
    biases_of,
    constant,
    copied,
    found_constant,
    nodes_of,
    set_constant,
    some_of,
    weights_of,
    with_constant,
)


def one_weight(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """One element of a weight changed by 10, 1 and 0.1 %."""
    for share in (0.1, 0.01, 0.001):
        for name in some_of(weights_of(model), generator, 2):
            array = constant(model, name).copy()
            place = int(generator.integers(array.size))
            array.flat[place] *= 1 + share
            yield f"{name}[{place}] by {share:g}", with_constant(model, name, array)


def whole_tensor(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """Every element of a weight changed by as much, up or down."""
    for share in (1e-3, 1e-4, 1e-5, 1e-6):
        for name in some_of(weights_of(model), generator, 2):
            array = constant(model, name)
            signs = generator.choice(np.array([-1, 1], array.dtype), array.shape)
            altered = array * (1 + np.float32(share) * signs)
            yield f"{name} by {share:g}", with_constant(model, name, altered)


def scaled_tensor(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """A weight scaled, as by a wrong step of a quantiser."""
    for share in (1e-2, 1e-4, 1e-6):
        for name in some_of(weights_of(model), generator, 2):
            altered = constant(model, name) * np.float32(1 + share)
            yield f"{name} by {share:g}", with_constant(model, name, altered)


def transposed_weight(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """A matrix read in the other memory order."""
    for name in some_of(weights_of(model, rank=2), generator, 3):
        array = constant(model, name)
        yield name, with_constant(model, name, array.T.reshape(array.shape))


def dropped_bias(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """A bias of zeros."""
    for name in some_of(biases_of(model), generator, 3):
        yield name, with_constant(model, name, np.zeros_like(constant(model, name)))


def shifted_bias(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """A bias whose every element is its neighbour's."""
    for name in some_of(biases_of(model), generator, 2):
        yield name, with_constant(model, name, np.roll(constant(model, name), 1))


def float16_weight(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """The weights of one layer rounded to float16."""
    for name in some_of(weights_of(model), generator, 4):
        rounded = constant(model, name).astype(np.float16).astype(np.float32)
        yield name, with_constant(model, name, rounded)


def bfloat16_weight(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """The weights of one layer cut to bfloat16."""
    for name in some_of(weights_of(model), generator, 2):
        bits = constant(model, name).view(np.uint32) & np.uint32(0xFFFF0000)
        yield name, with_constant(model, name, bits.view(np.float32))


def int8_weight(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """The weights of one layer rounded to 255 steps."""
    for name in some_of(weights_of(model), generator, 2):
        array = constant(model, name)
        step = np.abs(array).max() / 127
        yield name, with_constant(model, name, (np.round(array / step) * step).astype(np.float32))


def clipped_constant(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """The largest values of a weight clipped."""
    for quantile in (0.9, 0.99, 0.999):
        for name in some_of(weights_of(model), generator, 2):
            array = constant(model, name)
            bound = np.quantile(np.abs(array), quantile).astype(np.float32)
            yield f"{name} at {bound:.3g}", with_constant(model, name, array.clip(-bound, bound))


def swapped_rows(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """Two channels of a weight exchanged."""
    for name in some_of(weights_of(model), generator, 3):
        array = constant(model, name).copy()
        if len(array) > 1:
            one, other = generator.choice(len(array), 2, replace=False)
            array[[one, other]] = array[[other, one]]
            yield f"{name}, {one} and {other}", with_constant(model, name, array)


def stale_tied_weight(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """One of two uses of a weight keeps what it was some steps of training ago."""
    for name in weights_of(model):
        users = [node for node in model.graph.node if name in node.input]
        for share in (1e-2, 1e-4) if len(users) > 1 else ():
            array = constant(model, name)
            drift = share * array.std() * generator.standard_normal(array.shape)
            altered = copied(model)
            stale = numpy_helper.from_array((array + drift).astype(array.dtype), f"{name}_stale")
            altered.graph.initializer.append(stale)
            user = next(n for n in reversed(altered.graph.node) if name in n.input)
            user.input[list(user.input).index(name)] = stale.name
            yield f"{name} by {share:g} in {user.op_type}", altered


def gate_order(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """The gates of a recurrent layer in the order of another framework."""
    for index, node in nodes_of(model, "LSTM", "GRU"):
        altered = copied(model)
        hidden = attribute_of(node, "hidden_size")
        for place in (1, 2):
            array = constant(model, node.input[place])
            set_constant(altered, node.input[place], np.roll(array, hidden, 1))
        yield f"{node.op_type} {index}", altered


def scale_off(model: onnx.ModelProto, generator: np.random.Generator) -> Iterator[Altered]:
    """A scalar factor, such as that of attention, off by 1 and 0.1 %."""
    scalars = [
        (index, place)
        for index, node in nodes_of(model, "Mul", "Div")
        for place, name in enumerate(node.input)
        if (array := found_constant(model, name)) is not None
        and array.size == 1
        and array.dtype == np.float32
    ]
    for index, place in some_of(scalars, generator, 3):
        for share in (1e-2, 1e-3):
            altered = copied(model)
            node = altered.graph.node[index]
            array = constant(model, node.input[place]) * np.float32(1 + share)
            name = f"{node.input[place]}_scaled"
            altered.graph.initializer.append(numpy_helper.from_array(array, name))
            node.input[place] = name
            yield f"{node.op_type} {index} by {share:g}", altered

"""Operators that TensorRT has not, or not so, in others that compute the same.

TensorRT chooses along no axis that is the only one, has bytes as inputs and outputs alone, and
neither sums by index, transforms of Fourier, nor ``Col2Im``. What is not written here it refuses.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgeport.deploy.compilers.onnx_files.onnx_messages import (
    attributes_of,
    constants_by_name,
    dtypes_of,
    graphs,
    inferred,
    of_kind,
    rewrite,
    stand_for,
)
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.tensorrt.library import Name

Size = int | str | None

PART: Final = "/trt"
"""Behind the name of a node in the names of what stands in its place."""

_MOST: Final = 2**24
"""So many numbers of a transform are written into an engine, 64 MiB of float32."""


def write_out(model: onnx.ModelProto, library: Name) -> bool:
    """Write the operators of a model, in branches and loops too, as TensorRT has them.

    Args:
        model: Changed.
        library: That builds an engine of it.

    Returns:
        Whether there was one.
    """
    table = {**_TABLE, **(_OF_RTX if library == "tensorrt-rtx" else {})}
    found = [node for node in of_kind("NodeProto", model.graph) if node.op_type in table]
    if not found:
        return False
    sizes = _sizes_of(model)  # converters to narrower dtypes leave some out
    is_told = all(sizes.get(name) for node in found for name in node.input if name)
    known = model if is_told else inferred(model, sizes=True)
    facts = _Facts(dtypes_of(known), _sizes_of(known), constants_by_name(model))
    changed = False

    def written(node: NodeProto) -> Sequence[NodeProto]:
        nonlocal changed
        write = table.get(node.op_type)
        words = _Words(node)
        if write is None or not write(words, facts):
            return (node,)
        changed = True
        return words.nodes

    for graph in graphs(model):
        rewrite(graph, written)
    return changed


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of values, by name."""

    dtypes: Mapping[str, int]
    sizes: Mapping[str, Sequence[Size]]
    constants: Mapping[str, TensorProto | None]

    def values(self, name: str) -> list[int] | None:
        """Of a constant of integers."""
        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor).reshape(-1).tolist()


class _Words:
    """Nodes in the place of one; what it gave, the last one gives."""

    def __init__(self, node: NodeProto) -> None:
        self.node, self.given = node, attributes_of(node)
        self.nodes: list[NodeProto] = []

    def __call__(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"{self.node.output[0]}{PART}{len(self.nodes)}"
        made = helper.make_node(operator, inputs, [name], **attributes)
        stand_for(made, self.node)  # so that what is refused has the user's line
        if not output:
            made.name += f"{PART}{len(self.nodes)}"
        self.nodes.append(made)
        return name

    def float32(self, x: str, dtype: int) -> str:
        """A value that is computed with in float32, whatever it is."""
        return x if dtype == TensorProto.FLOAT else self("Cast", x, to=TensorProto.FLOAT)

    def given_as(self, x: str, dtype: int) -> None:
        """Give a value in the place of the node's."""
        self("Cast", x, to=dtype, output=self.node.output[0])

    def constant(self, array: Any) -> str:
        return self("Constant", value=numpy_helper.from_array(np.asarray(array)))


def _chosen(words: _Words, facts: _Facts) -> bool:
    """The place of the largest along an only axis: there is another for the time being."""
    node = words.node
    if len(facts.sizes.get(node.input[0], ())) != 1:
        return False
    first = words.constant([0])
    row = words("Unsqueeze", node.input[0], first)
    found = words(node.op_type, row, **{**words.given, "axis": 1})
    words("Squeeze", found, first, output=node.output[0])
    return True


def _gathered(words: _Words, facts: _Facts) -> bool:
    """``ScatterElements`` with a sum or the like: each place is compared with each index."""
    data, index, updates = words.node.input
    sizes = [list(facts.sizes.get(name, ())) for name in (data, index, updates)]
    axis = words.given.get("axis", 0)
    if words.given.get("reduction") not in _FOLDS or not sizes[0]:
        return False
    axis %= len(sizes[0])
    rest, *given = ([*each[:axis], *each[axis + 1 :]] for each in sizes)
    if None in rest or rest not in given:  # the two are as large as one another
        return False  # it may go over a part
    asked = words("Unsqueeze", index, words.constant([axis]))
    places = _places(words, facts, data, axis)
    if behind := len(sizes[0]) - axis:
        places = words("Unsqueeze", places, words.constant([*range(1, behind + 1)]))
    here = words("Equal", words("Cast", asked, to=TensorProto.INT64), places)
    return _folded_in(
        words, facts, here, words("Unsqueeze", updates, words.constant([axis])), axis + 1
    )


def _gathered_rows(words: _Words, facts: _Facts) -> bool:
    """``ScatterND`` of whole rows: the same."""
    data, index, updates = words.node.input
    rank, sizes = len(facts.sizes.get(data, ())), facts.sizes.get(index, ())
    if words.given.get("reduction") not in _FOLDS or not rank or len(sizes) != 2 or sizes[1] != 1:
        return False
    asked = words("Transpose", index, perm=[1, 0])  # (1, K)
    places = words("Unsqueeze", _places(words, facts, data, 0), words.constant([1]))
    here = words("Equal", asked, places)  # (D, K)
    if rank > 1:
        here = words("Unsqueeze", here, words.constant([*range(2, rank + 1)]))
    return _folded_in(words, facts, here, words("Unsqueeze", updates, words.constant([0])), 1)


def _places(words: _Words, facts: _Facts, data: str, axis: int) -> str:
    """The numbers of the places along an axis."""
    size = facts.sizes[data][axis]
    if isinstance(size, int):
        return words.constant(np.arange(size))
    length = words("Gather", words("Shape", data), words.constant(axis))
    return words("Range", words.constant(0), length, words.constant(1))


def _folded_in(words: _Words, facts: _Facts, here: str, updates: str, axis: int) -> bool:
    data = words.node.input[0]
    over, fold, neutral = _FOLDS[words.given["reduction"]]
    dtype = helper.tensor_dtype_to_np_dtype(facts.dtypes[data])
    if np.issubdtype(dtype, np.integer) and np.isinf(neutral):
        neutral = np.iinfo(dtype).min if neutral < 0 else np.iinfo(dtype).max
    taken = words("Where", here, updates, words.constant(np.array(neutral, dtype)))
    total = words(over, taken, words.constant([axis]), keepdims=0)
    words(fold, data, total, output=words.node.output[0])
    return True


_FOLDS: Final[Mapping[bytes | None, tuple[str, str, float]]] = {
    b"add": ("ReduceSum", "Add", 0),
    b"mul": ("ReduceProd", "Mul", 1),
    b"max": ("ReduceMax", "Max", -np.inf),
    b"min": ("ReduceMin", "Min", np.inf),
}
"""How several are one, how they join what is there, and what changes nothing."""


def _transformed(words: _Words, facts: _Facts) -> bool:
    """``DFT`` along the last axis of a fixed length: products with cosines and sines."""
    node, given = words.node, words.given
    x, length, axis = (*node.input, "", "")[:3]
    sizes = facts.sizes.get(x, ())
    along = facts.values(axis) if axis else [given.get("axis", -2)]
    if len(sizes) < 2 or along is None or along[0] % len(sizes) != len(sizes) - 2:
        return False
    taken, parts = sizes[-2:]
    whole = facts.values(length) if length else [taken]
    if not (isinstance(taken, int) and whole and isinstance(whole[0], int) and parts in (1, 2)):
        return False
    half, back = bool(given.get("onesided", 0)), bool(given.get("inverse", 0))
    count = whole[0]
    rows, columns = taken, count // 2 + 1 if half and not back else count
    dtype = facts.dtypes.get(x)
    if rows * columns > _MOST or not dtype:
        return False
    cosines, sines = _waves(rows, columns, count, half=half, back=back)
    x = words.float32(x, dtype)
    real = words("Gather", x, words.constant(0), axis=-1)
    answer = [words("MatMul", real, words.constant(cosines))]
    is_real = half and back
    if not is_real:
        answer.append(words("MatMul", real, words.constant(sines)))
    if parts == 2:
        other = words("Gather", x, words.constant(1), axis=-1)
        turned = words("MatMul", other, words.constant(sines))
        answer[0] = words("Sub", answer[0], turned)
        if not is_real:
            turned = words("MatMul", other, words.constant(cosines))
            answer[1] = words("Add", answer[1], turned)
    last = words.constant([-1])
    held = [words("Unsqueeze", each, last) for each in answer]
    words.given_as(words("Concat", *held, axis=-1), dtype)
    return True


def _waves(rows: int, columns: int, count: int, *, half: bool, back: bool) -> tuple[Array, Array]:
    """Real and imaginary parts of the roots of one, that a sequence is multiplied with."""
    turns = np.outer(np.arange(rows), np.arange(columns)) % count
    waves: Any = np.exp((2j if back else -2j) * np.pi * turns / count)
    if back:
        waves /= count
    if half and back:  # those that are not there are the mirror of those that are
        weights = np.full((rows, 1), 2.0)
        weights[0] = 1
        if count % 2 == 0 and rows > count // 2:
            weights[count // 2] = 1
        weights[count // 2 + 1 :] = 0
        waves *= weights
    elif rows > count:  # what is cut off
        waves[count:] = 0
    return waves.real.astype(np.float32), waves.imag.astype(np.float32)


def _folded(words: _Words, facts: _Facts) -> bool:
    """``Col2Im``: a transposed convolution whose kernels are one at one place each."""
    columns, image, block = words.node.input
    shape, kernel = facts.values(image), facts.values(block)
    sizes = facts.sizes.get(columns, ())
    dtype = facts.dtypes.get(columns, 0)
    if not shape or not kernel or len(shape) != 2 or len(sizes) != 3:
        return False
    rows = sizes[1]
    strides, dilations = (words.given.get(name, [1, 1]) for name in ("strides", "dilations"))
    if not isinstance(rows, int) or not dtype or (max(strides) > 1 and max(dilations) > 1):
        return False  # TensorRT-RTX 1.7 has no convolution that is both
    each = kernel[0] * kernel[1]
    pads = words.given.get("pads", [0, 0, 0, 0])
    wide = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    free = [
        size + before + after - width
        for size, before, after, width in zip(shape, pads[:2], pads[2:], wide, strict=True)
    ]
    counts = [room // step + 1 for room, step in zip(free, strides, strict=True)]
    ones = np.eye(each, dtype=np.float32).reshape(each, 1, *kernel)
    kernels = np.tile(ones, (rows // each, 1, 1, 1))
    wide_columns = words.float32(columns, dtype)  # it transposes no convolution of bfloat16
    laid = words("Reshape", wide_columns, words.constant([0, rows, *counts]))
    whole = words(
        "ConvTranspose", laid, words.constant(kernels),
        group=rows // each, strides=strides, dilations=dilations, pads=pads,
        output_padding=[room % step for room, step in zip(free, strides, strict=True)],
    )  # fmt: skip  # one call
    words.given_as(whole, dtype)
    return True


_TABLE: Final[Mapping[str, Callable[[_Words, _Facts], bool]]] = {
    "ArgMax": _chosen,
    "ArgMin": _chosen,
    "ScatterND": _gathered_rows,
    "DFT": _transformed,
    "Col2Im": _folded,
}


_OF_RTX: Final = {"ScatterElements": _gathered}
"""TensorRT 10 has a plugin for it, and TensorRT-RTX no plugins.

https://github.com/NVIDIA/TensorRT/issues/4701
"""


def _sizes_of(model: onnx.ModelProto) -> dict[str, list[Size]]:
    """By name; empty for what is not known, or where bodies that share a name differ."""
    found: dict[str, list[Size]] = {}
    for graph in graphs(model):
        named: list[tuple[str, list[Size]]] = [
            (each.name, [*each.dims]) for each in graph.initializer
        ]
        for value in (*graph.value_info, *graph.input, *graph.output):
            dims = value.type.tensor_type.shape.dim
            sizes = [
                d.dim_param or (d.dim_value if d.HasField("dim_value") else None) for d in dims
            ]
            named.append((value.name, sizes))
        for name, sizes in named:
            found[name] = sizes if found.get(name, sizes) == sizes else []
    return found


_MOVES: Final = {
    *("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Concat", "Gather"),
    *("Expand", "Split", "Identity"),
}


def widen_bytes(model: onnx.ModelProto) -> bool:
    """Let what only moves bytes move int32: TensorRT has bytes as inputs and outputs alone.

    Returns:
        Whether there was one.
    """
    graph = model.graph
    found = [node for node in graph.node if node.op_type in _MOVES]
    is_byte = {name for name, kind in dtypes_of(model).items() if kind == TensorProto.UINT8}
    if not any(is_byte.intersection(node.input) for node in found):
        return False
    wide: dict[str, str] = {}  # of those that are had as int32
    narrow: set[str] = set()  # of those, the ones that are had as bytes too

    def written(node: NodeProto) -> list[NodeProto]:
        made = []
        if node.op_type in _MOVES and is_byte.intersection(node.input):
            for name in sorted(is_byte.intersection(node.input) - wide.keys()):
                wide[name] = f"{name}/int32"
                made.append(_cast(name, wide[name], TensorProto.INT32))
                narrow.add(name)
            node.input[:] = [wide.get(name, name) for name in node.input]
            wide.update({name: f"{name}/int32" for name in node.output})
            node.output[:] = [wide[name] for name in node.output]
        elif node.op_type == "Cast":
            node.input[:] = [wide.get(name, name) for name in node.input]
        else:
            within = {name for each in of_kind("NodeProto", node) for name in each.input}
            made += _narrowed(sorted(within & wide.keys() - narrow))
        return [*made, node]

    def _narrowed(names: Sequence[str]) -> list[NodeProto]:
        narrow.update(names)
        return [_cast(wide[name], name, TensorProto.UINT8) for name in names]

    rewrite(graph, written)
    given = {each.name for each in graph.output}
    graph.node.extend(_narrowed(sorted(given & wide.keys() - narrow)))
    return True


def _cast(name: str, new: str, dtype: int) -> NodeProto:
    return helper.make_node("Cast", [name], [new], f"{new}/cast", to=dtype)

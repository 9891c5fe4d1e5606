"""Maxima, minima, bounds, signs, sums and products of int64, with what is right for them.

ONNX Runtime's kernels of Max, Min, Clip, Sign, ReduceMax and ReduceMin compare the lower halves of
two int64 as if they had a sign, where the upper halves are equal: the maximum of 0 and 3e9 is 0
(1.31.1 on x86). Comparisons, Where and TopK are right. What is made of sizes and small constants
alone hardly gets there, and stays. ReduceSum adds in float64, so that sums beyond 2^53 are rounded,
and those of int32 end at its ends where torch wraps; sums of what was a truth, or a narrower
number, are none of these. ReduceProd rounds as well: a Scan multiplies. No exporter has a value
``name/..`` of its own ``name``.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .onnx_messages import attributes_of, described, dtypes_of, graphs, rewrite, stand_for

_FOLDS: Final = {"Max": "Greater", "Min": "Less"}
_SELECTS: Final = {"ReduceMax": 1, "ReduceMin": 0}
"""Whether the largest is asked for."""
_WRONG: Final = {*_FOLDS, *_SELECTS, "Clip", "ReduceProd", "ReduceSum", "Sign"}
_NARROW: Final = {
    getattr(onnx.TensorProto, name) for name in ("BOOL", "INT8", "UINT8", "INT16", "UINT16")
}

_SMALL: Final = 2**31


def write_out_wide_integers(model: onnx.ModelProto) -> None:
    """Replace what is wrong for large integers, in the bodies of branches and loops too."""
    found = [node for graph in graphs(model) for node in graph.node if node.op_type in _WRONG]
    dtypes = dtypes_of(described(model, (node.output[0] for node in found)))
    if any(_is_wide(node, dtypes) for node in found):
        _write_out(model.graph, dtypes, frozenset(), {})


def _write_out(
    graph: onnx.GraphProto,
    dtypes: Mapping[str, int],
    outer: frozenset[str],
    known: Mapping[str, onnx.TensorProto],
) -> None:
    constants = {**known, **{each.name: each for each in graph.initializer}}
    sizes = {*outer, *(each.name for each in graph.initializer if _is_small(each))}
    narrow: set[str] = set()

    def written(node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
        if node.op_type == "Cast" and dtypes.get(node.input[0]) in _NARROW:
            narrow.update(node.output)
        if _is_size(node, sizes, constants):
            sizes.update(node.output)
        for attribute in node.attribute:
            for body in [attribute.g] * attribute.HasField("g") + [*attribute.graphs]:
                _write_out(body, dtypes, frozenset(sizes), constants)
        is_wrong = _is_wide(node, dtypes) and node.output[0] not in sizes
        if node.op_type == "ReduceSum" and is_wrong:
            is_wrong = node.input[0] not in narrow
        return _written_out(node, constants, dtypes) if is_wrong else (node,)

    rewrite(graph, written)  # in its order: what makes a size stands before


def _is_wide(node: onnx.NodeProto, dtypes: Mapping[str, int]) -> bool:
    held = [dtypes.get(name) for name in (node.input[0], node.output[0])] if node.input else []
    if node.op_type == "ReduceSum" and onnx.TensorProto.INT32 in held:
        return True
    return node.op_type in _WRONG and onnx.TensorProto.INT64 in held


def _is_size(
    node: onnx.NodeProto, sizes: set[str], constants: Mapping[str, onnx.TensorProto]
) -> bool:
    if node.op_type in ("Shape", "Size"):
        return True
    if node.op_type == "Constant":
        tensor = constants.get(node.output[0])
        return tensor is None or _is_small(tensor)
    grows = node.op_type in ("Range", "If", "Loop", "Scan")  # or sees more than its inputs
    return not grows and all(name in sizes for name in node.input if name)


def _is_small(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type != onnx.TensorProto.INT64 or tensor.data_location == tensor.EXTERNAL:
        return True  # weights that large are no bounds
    values = numpy_helper.to_array(tensor)
    return bool(((values > -_SMALL) & (values < _SMALL)).all())


def _written_out(
    node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], dtypes: Mapping[str, int]
) -> Sequence[onnx.NodeProto]:
    """The last one keeps name, notes and output; the node itself where it cannot be taken apart."""
    if node.op_type in _SELECTS:
        made = list(_selected(node, constants))
    elif node.op_type == "Sign":
        made = list(_sign(node))
    elif node.op_type == "ReduceSum":
        is_wide = dtypes.get(node.input[0]) == onnx.TensorProto.INT64
        made = list(_in_halves(node) if is_wide else _wrapped(node))
    elif node.op_type == "ReduceProd":
        made = list(_multiplied(node, constants))
    else:
        made = list(_folded(node))
    if not made:
        return (node,)
    stand_for(made[-1], node)
    return made


def _folded(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Max, Min and Clip, one comparison for each value beyond the first."""
    folds = [_FOLDS.get(node.op_type)] * len(node.input)
    if node.op_type == "Clip":
        folds = [None, "Greater", "Less"]
    steps = [(name, fold) for name, fold in zip(node.input, folds, strict=False) if name][1:]
    (output,) = node.output
    held = node.input[0]
    for number, (name, fold) in enumerate(steps):
        last = number == len(steps) - 1
        made, asked = output if last else f"{output}/{number}", f"{output}/asked_{number}"
        yield helper.make_node(str(fold), [name, held], [asked], asked)
        yield helper.make_node("Where", [asked, name, held], [made], made)
        held = made


def _sign(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    (value,), (output,) = node.input, node.output
    zero = numpy_helper.from_array(np.array(0, np.int64))
    yield helper.make_node("Constant", [], [f"{output}/zero"], f"{output}/zero", value=zero)
    for name, ask in (("above", "Greater"), ("below", "Less")):
        asked, number = f"{output}/{name}", f"{output}/{name}_number"
        yield helper.make_node(ask, [value, f"{output}/zero"], [asked], asked)
        yield helper.make_node("Cast", [asked], [number], number, to=onnx.TensorProto.INT64)
    yield helper.make_node("Sub", [f"{output}/above_number", f"{output}/below_number"], [output])


def _in_halves(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """ReduceSum of int64: its upper and lower halves apart, which float64 holds; the rest wraps."""
    (output,) = node.output
    whole, *axes = node.input
    half = numpy_helper.from_array(np.array(2**32, np.int64))
    names = ("half", "upper", "cut", "lower", "uppers", "lowers", "shifted")
    by, upper, cut, lower, uppers, lowers, shifted = (f"{output}/{name}" for name in names)
    yield helper.make_node("Constant", [], [by], by, value=half)
    yield helper.make_node("Div", [whole, by], [upper], upper)
    yield helper.make_node("Mul", [upper, by], [cut], cut)
    yield helper.make_node("Sub", [whole, cut], [lower], lower)
    for given, made in ((upper, uppers), (lower, lowers)):
        summed = helper.make_node("ReduceSum", [given, *axes], [made], made)
        summed.attribute.extend(node.attribute)
        yield summed
    yield helper.make_node("Mul", [uppers, by], [shifted], shifted)
    yield helper.make_node("Add", [shifted, lowers], [output])


def _wrapped(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """ReduceSum of int32, by way of int64."""
    (output,) = node.output
    given, *axes = node.input
    wide, made = f"{output}/wide", f"{output}/summed"
    yield helper.make_node("Cast", [given], [wide], wide, to=onnx.TensorProto.INT64)
    summed = helper.make_node("ReduceSum", [wide, *axes], [made], made)
    summed.attribute.extend(node.attribute)
    yield summed
    yield helper.make_node("Cast", [made], [output], to=onnx.TensorProto.INT32)


def _multiplied(
    node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]
) -> Iterator[onnx.NodeProto]:
    """ReduceProd along one axis, or of all: one slice times the next, which wraps.

    A Scan refuses to go through no slices: there are ones before them.
    """
    axes, keeps = _axes(node, constants), _keeps(node)
    if axes is None or len(axes) > 1:
        return
    (output,), held = node.output, node.input[0]
    for each, number in {"flat": [-1], "axis": axes or [0], "zero": 0, "one": 1}.items():
        value, name = numpy_helper.from_array(np.array(number, np.int64)), f"{output}/{each}"
        yield helper.make_node("Constant", [], [name], name, value=value)
    rounded, nothing, first = (f"{output}/{name}" for name in ("rounded", "nothing", "first"))
    of_its_shape = helper.make_node("ReduceProd", node.input, [rounded], rounded, keepdims=0)
    others = (each for each in node.attribute if each.name != "keepdims")
    of_its_shape.attribute.extend(others)
    yield of_its_shape
    if not axes:
        yield helper.make_node("Reshape", [held, f"{output}/flat"], [f"{output}/row"])
        held = f"{output}/row"
    yield helper.make_node("Mul", [rounded, f"{output}/zero"], [nothing], nothing)
    yield helper.make_node("Add", [nothing, f"{output}/one"], [first], first)
    ones, behind = f"{output}/ones", f"{output}/behind"
    yield helper.make_node("Unsqueeze", [first, f"{output}/axis"], [ones], ones)
    yield helper.make_node("Concat", [ones, held], [behind], behind, axis=(axes or [0])[0])
    made = f"{output}/product" if keeps else output
    options: dict[str, Any] = {"num_scan_inputs": 1, "scan_input_axes": axes or [0]}
    yield helper.make_node("Scan", [first, behind], [made], made, body=_times(output), **options)
    if keeps:
        yield helper.make_node("Unsqueeze", [made, f"{output}/axis"], [output])


def _keeps(node: onnx.NodeProto) -> bool:
    return bool(attributes_of(node).get("keepdims", 1))


def _axes(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> list[int] | None:
    """Of a reduction; none are all of them. ``None`` where they are not known, or all are kept."""
    options = attributes_of(node)
    axes = list(options.get("axes", ()))
    if len(node.input) > 1 and node.input[1]:
        if node.input[1] not in constants:
            return None
        axes = numpy_helper.to_array(constants[node.input[1]]).reshape(-1).tolist()
    are_kept = _keeps(node) or options.get("noop_with_empty_axes", 0)
    return None if not axes and are_kept else axes


def _times(prefix: str) -> onnx.GraphProto:
    """A step: the product so far, and a slice."""
    so_far, each, made = (f"{prefix}/{name}" for name in ("so_far", "each", "made"))
    names = so_far, each, made
    told = [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None) for name in names]
    return helper.make_graph(
        [helper.make_node("Mul", [so_far, each], [made], made)], prefix, told[:2], told[2:]
    )


def _selected(
    node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]
) -> Iterator[onnx.NodeProto]:
    """ReduceMax and ReduceMin, axis by axis: the first of all in order."""
    axes, keeps = _axes(node, constants), _keeps(node)
    if axes is None:
        return
    (output,), held = node.output, node.input[0]
    if not axes:
        flat = numpy_helper.from_array(np.array([-1], np.int64))
        yield helper.make_node("Constant", [], [f"{output}/flat"], f"{output}/flat", value=flat)
        yield helper.make_node("Reshape", [held, f"{output}/flat"], [f"{output}/row"])
        held, axes = f"{output}/row", [0]
    one = numpy_helper.from_array(np.array([1], np.int64))
    yield helper.make_node("Constant", [], [f"{output}/one"], f"{output}/one", value=one)
    for number, axis in enumerate(axes):
        made = output if keeps and number == len(axes) - 1 else f"{output}/{number}"
        largest = _SELECTS[node.op_type]
        outputs = [made, f"{output}/place_{number}"]
        yield helper.make_node("TopK", [held, f"{output}/one"], outputs, axis=axis, largest=largest)
        held = made
    if not keeps:
        all_ = numpy_helper.from_array(np.array(axes, np.int64))
        yield helper.make_node("Constant", [], [f"{output}/axes"], f"{output}/axes", value=all_)
        yield helper.make_node("Squeeze", [held, f"{output}/axes"], [output])

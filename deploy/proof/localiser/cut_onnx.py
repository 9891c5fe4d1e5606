"""Cut the wrong operator out of an ONNX file, as a case that needs nothing else."""

from collections.abc import Mapping, Sequence
from typing import Final

import onnx
from onnx import helper, numpy_helper

from edgeport.runtimes import EngineError
from edgeport.runtimes.inputs import Array

from .divergence import Sides
from .onnx_run import OnnxFile, read_by, run_outputs
from .repro import script, stored_arrays
from .result import Localisation
from .segment import Segment, Whole, inputs_of
from .trace import Value

_LARGEST_CASE: Final = 2**30
"""Bytes of weights that are copied into a case."""


def cut(
    file: OnnxFile, sides: Sides, segment: Segment, whole: Whole, told: Localisation
) -> tuple[Array, dict[str, bytes]] | None:
    """Make the case and run it.

    Args:
        file: What the artefact's trace was made from.
        sides: Both runs.
        segment: What to cut out.
        whole: Values of the module that the segment names.
        told: What was found, for the script's first line.

    Returns:
        What the case answers, and its files; ``None`` if it cannot be cut out or does not run.
    """
    values = sides.artefact.values
    output = str(values[segment.output].call)
    renamed = {_name(sides, n): f"input_{i}" for i, n in enumerate(segment.inputs)}
    names = {_name(sides, number) for number in segment.inner}
    nodes = [node for node in file.model.graph.node if not names.isdisjoint(node.output)]
    needed = {name for node in nodes for name in read_by(node)} - renamed.keys()
    constants = [
        node
        for node in file.model.graph.node
        if node.op_type == "Constant" and node.output[0] in needed
    ]
    weights = [tensor for tensor in file.model.graph.initializer if tensor.name in needed]
    inputs = inputs_of(segment, sides, whole)
    if sum(tensor.ByteSize() for tensor in weights) > _LARGEST_CASE:
        return None
    model = _model(
        file, [*constants, *nodes], weights, inputs, output, values[segment.output], renamed
    )
    try:
        (actual,) = run_outputs(OnnxFile(model, file.folder), [output], inputs).values()
    except (EngineError, ValueError):
        return None
    content = {
        "model.onnx": model.SerializeToString(deterministic=True),
        "inputs.npz": stored_arrays(inputs, whole[segment.expected], actual),
        "repro.py": script("onnx", told).encode(),
    }
    return actual, content


def _name(sides: Sides, number: int) -> str:
    value = sides.artefact.values[number]
    return str(value.call or value.name)


def _model(
    file: OnnxFile,
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    inputs: Mapping[str, Array],
    output: str,
    answer: Value,
    renamed: Mapping[str, str],
) -> onnx.ModelProto:
    identities = [  # bodies of If and Loop read outer names, so nothing is renamed in place
        helper.make_node("Identity", [new], [old], name=f"given_{new}")
        for old, new in renamed.items()
    ]
    graph = helper.make_graph(
        [*identities, *map(_clean, nodes)],
        "repro",
        [_typed(name, array, array.shape) for name, array in inputs.items()],
        [_typed(output, answer.kept, answer.shape)],
        [numpy_helper.from_array(file.weight(tensor), tensor.name) for tensor in weights],
    )
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=file.model.opset_import, ir_version=file.model.ir_version
    )
    return model


def _typed(name: str, array: Array, shape: Sequence[int]) -> onnx.ValueInfoProto:
    dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, dtype, shape)


def _clean(node: onnx.NodeProto) -> onnx.NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    copied.ClearField("doc_string")
    copied.ClearField("metadata_props")
    return copied

"""A file in float16 or bfloat16: ONNX Runtime's converter, whose casts are put right."""

from collections.abc import Collection
from pathlib import Path
from typing import Final
from unittest import mock

import onnx
from onnx import TensorProto

from edgeport.deploy.compilers.onnx_files.onnx_graph import in_order
from edgeport.deploy.compilers.onnx_files.onnx_messages import graphs, of_kind
from edgeport.deploy.compilers.onnx_files.recurrent_steps import write_out_steps

from .bfloat16 import cut_tensor, put_in_bfloat16

_COMES_OUT: Final = "graph_output_cast"
"""How the converter calls the casts behind which outputs are float32."""


def in_float16(path: Path, kept: Collection[str]) -> onnx.ModelProto:
    """A file with its floats in float16, but for nodes that are kept in float32.

    Its inputs and outputs stay as they are, as do operators that have no float16.
    """
    from onnxruntime.transformers import float16

    made = float16.convert_float_to_float16(  # in memory it infers no shapes beyond 2 GiB
        str(path), keep_io_types=True, node_block_list=[*kept]
    )
    *inner, outermost = graphs(made)
    taken: set[str] = set()
    for graph in inner:
        taken |= _take_casts(graph, outermost)
        for tensor in _constants_as_outputs(graph):  # no node takes them: it leaves them
            tensor.CopyFrom(float16.convert_tensor_float_to_float16(tensor))
    for graph, known in (*((graph, set()) for graph in inner), (outermost, taken)):
        _drop_repeated_casts(graph, known)
        _keep_wide(graph)
    return in_order(made)


def in_bfloat16(path: Path, kept: Collection[str]) -> onnx.ModelProto:
    """As ``in_float16``, in bfloat16."""
    from onnxruntime.transformers import float16

    with mock.patch.object(float16, "convert_tensor_float_to_float16", cut_tensor):
        model = in_float16(path, kept)
    put_in_bfloat16(model)
    write_out_steps(model, "GRU")  # TensorRT-RTX 1.7 subtracts from a 1 in float32
    return model


def _constants_as_outputs(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Those in float32 that a branch gives back in float16."""
    narrow = {
        value.name
        for value in graph.output
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16
    }
    given = graph.initializer
    return [each for each in given if each.name in narrow and each.data_type == TensorProto.FLOAT]


def _take_casts(inner: onnx.GraphProto, outermost: onnx.GraphProto) -> set[str]:
    """Copy casts of what an inner graph makes there: the converter has them in the outermost.

    Two branches may each make a value of one name.

    Returns:
        What these casts make.
    """
    made = {name for node in inner.node for name in node.output}
    made.update(value.name for value in inner.input)
    needed = {name for node in of_kind("NodeProto", inner) for name in node.input}
    needed.update(value.name for value in inner.output)
    casts, kept = [], []
    for node in outermost.node:  # one may be of what the last has made
        if node.op_type == "Cast" and node.input[0] in made:
            casts.append(node)
            made.update(node.output)
    for node in reversed(casts):
        if node.output[0] in needed:
            kept.append(node)
            needed.update(node.input)
    inner.node.extend(kept)
    return {node.output[0] for node in casts}


def _drop_repeated_casts(graph: onnx.GraphProto, known: set[str]) -> None:
    """Keep one of those that the converter writes for each node that takes a value in float32.

    Args:
        graph: Of nodes.
        known: What casts elsewhere make: none of those is kept.
    """
    kept = []
    for node in graph.node:
        if node.op_type != "Cast" or node.output[0] not in known:
            kept.append(node)
            known.update(node.output)
    del graph.node[:]
    graph.node.extend(kept)


def _keep_wide(graph: onnx.GraphProto) -> None:
    """What goes from one node in float32 to the next, or comes out, is not to be rounded between.

    Nor is a size, as in ``Range(0, Cast(size), 1)``: of 301, bfloat16 makes 300.
    """
    casts = [node for node in graph.node if node.op_type == "Cast"]
    narrowed = {
        node.output[0]: node.input[0]
        for node in casts
        if onnx.helper.get_node_attr_value(node, "to") == TensorProto.FLOAT16
    }
    for node in casts:
        (name,) = node.input
        if node.output[0] == f"{name}_cast_to_fp32" or node.name.startswith(_COMES_OUT):
            node.input[0] = narrowed.get(name, name)

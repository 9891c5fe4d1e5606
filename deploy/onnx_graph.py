"""ONNX, through torch.onnx's dynamo exporter; asked and got are compared before it counts."""

import json
from collections.abc import Iterable
from typing import Any, Final

import onnx
import torch

from edgeport import __version__
from edgeport.runtimes import ContractError, ExportError, TensorSpec
from edgeport.runtimes.signature import METADATA_KEY

from .source import Source
from .upstream import cause, quiet

OPSETS: Final = range(18, 25)
"""What torch 2.13 writes as asked and ONNX Runtime 1.31 and TensorRT 11 read."""

DEFAULT_OPSET: Final = 20
NEWEST_IR: Final = 13
_LARGEST_BYTES: Final = 2**31 - 1


def compile_onnx(source: Source, opset: int) -> tuple[bytes, dict[str, int | str]]:
    """Compile to ONNX, with the signature inside and no path of this machine.

    Returns:
        The file, and its opset and IR version as read back.

    Raises:
        ExportError: Torch refused the module, or the file is not valid ONNX.
        ContractError: The exporter wrote another opset, name, dtype or dimension than asked.
    """
    model = _export(source, opset)
    _forget_this_machine(model)
    _check_contract(model, source, opset)
    _label(model, source)
    try:
        onnx.checker.check_model(model, full_check=True)
        data = model.SerializeToString(deterministic=True)
    except Exception as e:  # the checker's own kinds; protobuf's beyond 2 GiB
        raise ExportError(
            f"ONNX: the exporter wrote an invalid file: {cause(e)}",
            remedy=f"try another --opset between {OPSETS.start} and {OPSETS.stop - 1}",
        ) from e
    return data, {"opset": opset, "ir_version": model.ir_version}


def _export(source: Source, opset: int) -> onnx.ModelProto:
    try:
        with quiet():
            program = torch.onnx.export(
                source.copy_module(),
                source.example_tensors(),
                input_names=[spec.name for spec in source.signature.inputs],
                output_names=[spec.name for spec in source.signature.outputs],
                dynamic_shapes=_dynamic_shapes(source),
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
    except Exception as e:  # torch.onnx raises a dozen kinds
        raise ExportError(
            f"ONNX: torch.onnx refuses {type(source.module).__name__}: {cause(e)}",
            remedy="leave this format out with --format, or see the traceback with --debug",
        ) from e
    if program is None:
        raise ExportError("ONNX: torch.onnx returned nothing", remedy="report this with --debug")
    return program.model_proto


def _dynamic_shapes(source: Source) -> tuple[dict[int, str], ...]:
    """Names as plain strings: with ``Dim`` a dimension that the module fixes is fixed silently."""
    return tuple(
        {axis: size for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in source.signature.inputs
    )


def _check_contract(model: onnx.ModelProto, source: Source, opset: int) -> None:
    got = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if got.get("ai.onnx") != opset:
        raise ContractError(
            f"asked for ONNX opset {opset}, the exporter wrote {got.get('ai.onnx')}",
            remedy=f"ask for an opset between {OPSETS.start} and {OPSETS.stop - 1}",
        )
    if model.ir_version > NEWEST_IR:
        raise ContractError(
            f"the exporter wrote IR version {model.ir_version}, engines read up to {NEWEST_IR}",
            remedy="install the torch and onnx of constraints.txt",
        )
    _compare("inputs", [*model.graph.input], source.signature.inputs, names_matter=True)
    _compare("outputs", [*model.graph.output], source.signature.outputs, names_matter=False)


def _compare(
    what: str,
    found: list[onnx.ValueInfoProto],
    asked: tuple[TensorSpec, ...],
    *,
    names_matter: bool,
) -> None:
    """Compare names, dtypes and sizes. A free output axis may have any name: we give it ours."""
    if [value.name for value in found] != [spec.name for spec in asked]:
        raise ContractError(
            f"asked for {what} {', '.join(spec.name for spec in asked)}, "
            f"the exporter wrote {', '.join(value.name for value in found) or 'none'}",
            remedy="give every input a use in forward, or don't declare it",
        )
    for value, spec in zip(found, asked, strict=True):
        got = _spec(value)
        sizes_fit = len(got.shape) == len(spec.shape) and all(
            a == b or (isinstance(a, str) and isinstance(b, str) and not names_matter)
            for a, b in zip(got.shape, spec.shape, strict=True)
        )
        if got.dtype != spec.dtype or not sizes_fit:
            raise ContractError(
                f"asked for {spec}, the exporter wrote {got}",
                remedy="forward fixes a size; compute sizes from tensor.shape, or declare it fixed",
            )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(size.dim_param or size.dim_value for size in tensor.shape.dim)
    return TensorSpec(
        value.name, str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)), shape
    )


def _label(model: onnx.ModelProto, source: Source) -> None:
    """Write the producer, the signature, and our names of the outputs' free axes."""
    model.producer_name, model.producer_version = "edgeport", __version__
    model.metadata_props.add(key=METADATA_KEY, value=json.dumps(source.signature.to_json()))
    for value, spec in zip(model.graph.output, source.signature.outputs, strict=True):
        for dimension, size in zip(value.type.tensor_type.shape.dim, spec.shape, strict=True):
            if isinstance(size, str):
                dimension.dim_param = size


def _forget_this_machine(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes (stack traces with paths) from the model and everything in it."""
    model.doc_string = ""
    del model.metadata_props[:]
    for function in model.functions:
        _forget(function, function.node)
    _forget_graph(model.graph)


def _forget_graph(graph: onnx.GraphProto) -> None:
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for value in values:
        _forget(value, ())
    _forget(graph, graph.node)


def _forget(owner: Any, nodes: Iterable[onnx.NodeProto]) -> None:  # every proto with these fields
    owner.doc_string = ""
    del owner.metadata_props[:]
    for node in nodes:
        _forget(node, ())
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs) if attribute.type in (5, 10) else ():
                _forget_graph(graph)

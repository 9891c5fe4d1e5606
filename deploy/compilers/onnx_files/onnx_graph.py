"""What an exporter wrote: cleaned, compared with what was asked, labelled, checked, stored."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from edgeport import __version__
from edgeport.deploy.compilers.narrower.bfloat16 import widen_bfloat16
from edgeport.deploy.compilers.stored import Compiled, stored
from edgeport.deploy.compilers.targets import OPSETS, OnnxRequest
from edgeport.deploy.compilers.upstream import cause
from edgeport.deploy.diagnosis.remedies import OTHER_DTYPE
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import ContractError, ExportError, StorageError, TensorSpec, files
from edgeport.runtimes.bundles.manifest import Artefact
from edgeport.runtimes.signature import METADATA_KEY, PRECISION_KEY

from .centred_norms import centre
from .debug_map import dumps, read_debug_map
from .far_places import write_out_far_places
from .ir_version import stamp
from .older_opsets import lower
from .onnx_messages import messages
from .reduced_axes import count_from_first
from .sigmoids import write_out_sigmoids
from .wide_integers import write_out_wide_integers

FILE: Final = "model.onnx"
EXTERNAL_FILE: Final = f"{FILE}.data"

_FIXED: Final = "forward fixes a size; compute sizes from tensor.shape, or declare it fixed"

_LACKING: Final = re.compile(r"op_type:(\w+), .*unsupported type: tensor\((\w+)\)")

LARGEST_FILE_BYTES: Final = 2**31 - 2**20
"""Protobuf's limit is 2 GiB; larger models keep their weights in a file of their own."""


def finish(model: onnx.ModelProto, source: Source, request: OnnxRequest, folder: Path) -> Compiled:
    """Make a file that can ship out of what an exporter wrote.

    Returns:
        The artefact, and the private map from its nodes to the user's code.

    Raises:
        ExportError: The file is not valid ONNX.
        ContractError: The exporter wrote another opset, name, dtype or dimension than asked.
        OlderOpsetError: The opset that was asked for has not what the model needs.
    """
    write_out_sigmoids(model)
    write_out_wide_integers(model)
    write_out_far_places(model)
    count_from_first(model)
    centre(model)
    debug_map = dumps(read_debug_map(model))
    _forget_this_machine(model)
    widened = widen_bfloat16(model)
    _complete_outputs(model, source.signature.outputs)
    _compute_outputs(model.graph)
    lower(model, request.opset)
    details = {"widened": "bfloat16 to float32"} if widened else {}
    artefact = packed(model, source, request, folder, source.signature.precision, details)
    return Compiled(artefact, debug_map)


def packed(
    model: onnx.ModelProto,
    source: Source,
    request: OnnxRequest,
    folder: Path,
    precision: str,
    more: Mapping[str, int | str],
) -> Artefact:
    """Compare a model with what was asked, label it, and write it.

    Args:
        model: Changed.
        source: What it was made from.
        request: What was asked.
        folder: Where it is written.
        precision: What it computes in.
        more: Details of the artefact.

    Raises:
        ExportError: It is not valid ONNX.
        ContractError: It has another opset, name, dtype or dimension than asked.
        StorageError: It cannot be written.
    """
    _check_contract(model, source, request)
    stamp(model, request)
    _label(model, source, precision)
    details: dict[str, int | str] = {"opset": request.opset, "ir_version": model.ir_version}
    if request.target:
        details["target"] = request.target
    details |= more
    large = is_large(model)
    if not large:
        _check(model)  # before it is written, as this is quicker
    names = write(model, folder / FILE)
    if large:
        _check(str(folder / FILE))
    file, *external = (stored(folder, name) for name in names)
    return Artefact("onnx", precision, file, details=details, external=tuple(external))


def in_order(model: onnx.ModelProto, *, merged: bool = False) -> onnx.ModelProto:
    """Sort nodes, which ONNX Runtime's tools put at the end, or behind what takes their values.

    Args:
        model: As one of these tools wrote it.
        merged: Whether weights that are equal are to be held once.
    """
    import onnx_ir
    from onnx_ir.passes.common import DeduplicateHashedInitializersPass

    ordered = onnx_ir.from_proto(model)
    if merged:
        DeduplicateHashedInitializersPass()(ordered)
    ordered.graph.sort()
    made: onnx.ModelProto = onnx_ir.to_proto(ordered)
    return made


def is_large(model: onnx.ModelProto) -> bool:
    """Whether its weights need a file of their own."""
    return sum(len(each.raw_data) for each in model.graph.initializer) > LARGEST_FILE_BYTES


def write(model: onnx.ModelProto, path: Path) -> tuple[str, ...]:
    """Write a model, with large weights in a file beside it, into a folder that is not seen yet.

    Returns:
        The names of the files; the model's is the first.

    Raises:
        StorageError: They cannot be written.
    """
    if not is_large(model):
        files.write(path, model.SerializeToString(deterministic=True))
        return (path.name,)
    beside = f"{path.name}.data"
    try:
        onnx.save_model(
            model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=beside
        )
    except OSError as e:
        raise StorageError(
            f"cannot write {path.with_name(beside)}: {e.strerror or e}",
            remedy="choose another place, or free some space",
        ) from e
    path.with_name(beside).chmod(path.stat().st_mode)  # onnx makes it private
    for name in (path.name, beside):
        files.sync(path.with_name(name))
    return path.name, beside


def _check(model: onnx.ModelProto | str) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as e:  # the checker's own kinds
        told = cause(e)
        if lacking := _LACKING.search(told):
            raise ExportError(
                f"ONNX has no {lacking[1]} of {lacking[2]}", remedy=OTHER_DTYPE
            ) from e
        raise ExportError(
            f"the exporter wrote an invalid file: {told}",
            remedy=f"try another --opset between {OPSETS.start} and {OPSETS.stop - 1}",
        ) from e


def _check_contract(model: onnx.ModelProto, source: Source, request: OnnxRequest) -> None:
    got = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if got.get("ai.onnx") != request.opset:
        raise ContractError(
            f"asked for ONNX opset {request.opset}, the exporter wrote {got.get('ai.onnx')}",
            remedy=f"ask for an opset between {OPSETS.start} and {OPSETS.stop - 1}",
        )
    _compare("inputs", [*model.graph.input], source.signature.inputs)
    _compare("outputs", [*model.graph.output], source.signature.outputs)


def _compare(what: str, found: list[onnx.ValueInfoProto], asked: tuple[TensorSpec, ...]) -> None:
    if [value.name for value in found] != [spec.name for spec in asked]:
        raise ContractError(
            f"asked for {what} {', '.join(spec.name for spec in asked)}, "
            f"the exporter wrote {', '.join(value.name for value in found) or 'none'}",
            remedy="give every input a use in forward, or don't declare it",
        )
    for value, spec in zip(found, asked, strict=True):
        got = _spec(value)
        if got != spec:
            raise ContractError(
                f"asked for {spec}, the exporter wrote {got}",
                remedy=OTHER_DTYPE if got.dtype != spec.dtype else _FIXED,
            )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(size.dim_param or size.dim_value for size in tensor.shape.dim)
    return TensorSpec(
        value.name, str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)), shape
    )


def _complete_outputs(model: onnx.ModelProto, specs: Sequence[TensorSpec]) -> None:
    """Write what the exporter left open as we measured it: parity sees that it holds.

    A free axis gets our name; where the exporter fixed a size, it stays, and is compared.
    """
    for value, spec in zip(model.graph.output, specs, strict=False):
        shape = value.type.tensor_type.shape
        if value.type.tensor_type.elem_type == onnx.TensorProto.UNDEFINED:
            dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
            value.type.tensor_type.elem_type = dtype
        if not value.type.tensor_type.HasField("shape"):
            for _ in spec.shape:
                shape.dim.add()
        for dimension, size in zip(shape.dim, spec.shape, strict=False):
            if dimension.WhichOneof("value") != "dim_value":
                _set_size(dimension, size)


def _compute_outputs(graph: onnx.GraphProto) -> None:
    """Give an output that is a weight itself a node: without, it cannot be made narrower."""
    outputs = {value.name for value in graph.output}
    for weight in graph.initializer:
        if (name := weight.name) in outputs:
            weight.name = f"{name}/weight"
            graph.node.insert(0, onnx.helper.make_node("Identity", [weight.name], [name], name))


def _label(model: onnx.ModelProto, source: Source, precision: str) -> None:
    """Write the producer, the signature, and the precision where its inputs don't say it."""
    model.producer_name, model.producer_version = "edgeport", __version__
    model.graph.name = "main"
    said = {METADATA_KEY: json.dumps(source.signature.to_json())}
    if precision != source.signature.precision:
        said[PRECISION_KEY] = precision
    onnx.helper.set_model_props(model, said)


def _set_size(dimension: onnx.TensorShapeProto.Dimension, size: int | str) -> None:
    if isinstance(size, str):
        dimension.dim_param = size
    else:
        dimension.dim_value = size


def _forget_this_machine(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes (stack traces with paths) from the model and everything in it."""
    for message in list(messages(model)):
        for field in ("doc_string", "metadata_props"):
            if field in message.DESCRIPTOR.fields_by_name:
                message.ClearField(field)

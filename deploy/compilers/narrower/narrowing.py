"""From a proved ONNX file to one that computes in less: float16, bfloat16, or int8.

ONNX Runtime's own tools do it. Inputs and outputs stay as they are. int8 is made in three ways,
as none is right for all models: static, with ranges of values that are measured on samples;
dynamic, where they are measured in each call; and static and symmetric, for TensorRT, and for those
on whose kernels the first goes wrong. Weights have seven bits: on a processor without VNNI, eight
saturate (16.8 dB where seven keep 38). No engine on a CPU runs bfloat16: its file is for TensorRT,
and what is proved is one in float32 that rounds each value as it does. So is float16's, beside the
file itself, in which ONNX Runtime computes much in float32.
"""

import contextlib
import io
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest import mock

import onnx
from onnx import TensorProto

from edgeport.deploy.compilers.onnx_files.onnx_graph import in_order, packed, write
from edgeport.deploy.compilers.onnx_files.onnx_messages import of_kind, uses
from edgeport.deploy.compilers.routes import Route
from edgeport.deploy.compilers.stored import Compiled, EngineSource
from edgeport.deploy.compilers.targets import OnnxRequest
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import ContractError, StorageError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.thresholds import Precision

from .half_floats import in_bfloat16, in_float16
from .int8_weights import give_own_weights, has_stacked, kept_in_float, share_in, share_in_int8
from .rounding import round_each
from .wide_nodes import (
    nodes_of_places,
    nodes_on_lists,
    products_of_transposed,
    without_bfloat16,
    without_float16,
)

NARROW: Final[tuple[Precision, ...]] = ("float16", "bfloat16", "int8")

_BFLOAT16_FILE: Final = "bfloat16.onnx"
"""Beside the wide one, for engines of TensorRT."""

_DYNAMIC_ROUTE: Final = "int8 dynamic"
"""The one of int8 that does not measure ranges of values before."""

_LEAST_SHARE: Final = 0.5
"""Of the weights, in int8: or the file is not what was asked for."""
_NEARLY_ALL: Final = 0.95
"""Of them: below, it is told how many, or which operators, keep theirs in float32."""
_CONVOLUTIONS: Final = ("Conv", "ConvTranspose")
_WITHOUT_KERNEL: Final = "ConvTranspose"
"""Of those with weights in int8, in ONNX Runtime 1.31 on the CPU: as small, and no quicker."""
_DYNAMIC: Final = ["Gather", "LSTM", "MatMul"]
"""Not convolutions: their dynamic kernel takes ten times as long as float32's."""
_PRODUCTS: Final = ["Gather", "Gemm", "MatMul"]
"""No others beside convolutions, where a mask of -Inf that is added takes all of a range."""
_COPIES: Final = 3
"""Of the file that ONNX Runtime's tools write while they make it narrower."""


@dataclass(frozen=True, slots=True)
class Wide:
    """The file to begin with.

    Attributes:
        path: Of an ONNX file in float32 that is proved.
        compiled: What its compiler said of it.
        request: What was asked of it, and is of the narrower one.
        inputs: To measure ranges of values on.
        origin: What these are.
        for_engines: Whether engines of TensorRT are to be built from it.
    """

    path: Path
    compiled: Compiled
    request: OnnxRequest
    inputs: Sequence[Mapping[str, Array]]
    origin: str
    for_engines: bool = False

    @property
    def is_large(self) -> bool:
        """Whether its weights are in a file of their own, beyond 2 GiB."""
        return bool(self.compiled.artefact.external)

    def without_weights(self) -> onnx.ModelProto:
        """The model; weights in a file of their own are left there."""
        return onnx.load(self.path, load_external_data=False)


def routes(precision: Precision, wide: Wide) -> tuple[Route, ...]:
    """The ways to a precision, in the order in which they are tried.

    ONNX Runtime's documentation ("Quantize ONNX models") recommends static ranges for convolutions,
    and dynamic ones for transformers and recurrent layers.
    """
    model = wide.without_weights()
    if precision == "float16":
        turned = products_of_transposed(model)
        float16 = in_float16_but("float16", wide, ())
        return (float16, in_float16_but("float16 mixed", wide, turned)) if turned else (float16,)
    if precision == "bfloat16":
        return (Route("bfloat16", partial(_bfloat16, wide=wide)),)
    dynamic = Route(_DYNAMIC_ROUTE, partial(_dynamic, wide=wide))
    convolves = any(node.op_type in _CONVOLUTIONS for node in model.graph.node)
    static, symmetric = (_measured(wide, convolves, symmetric=way) for way in (False, True))
    if wide.for_engines:
        return symmetric
    return (*static, dynamic, *symmetric) if convolves else (dynamic, *static, *symmetric)


def in_float16_but(name: str, wide: Wide, kept: Collection[str]) -> Route:
    """The way to float16 with some nodes in float32, as are those that have no float16 at all.

    Args:
        name: Of the way.
        wide: The file to begin with.
        kept: Names of nodes.
    """
    model = wide.without_weights()
    lists = {*nodes_on_lists(model)}  # of which there are no casts
    stay = [name for name in kept if name not in lists]
    file, emulated = (
        partial(_float16, wide=wide, lacking=without_float16(model), kept=stay, rounds=rounds)
        for rounds in (False, True)
    )
    return Route(name, file, emulated=emulated)


def to_build_from(made: Compiled, wide: Wide, folder: Path) -> EngineSource:
    """What engines are built from, once a narrower file is proved.

    Args:
        made: By a route of ``routes``.
        wide: What was narrowed.
        folder: Where the narrower file is.
    """
    found = EngineSource.of(made, folder)
    if found.precision != "bfloat16":
        return found
    return replace(found, path=wide.path.with_name(_BFLOAT16_FILE))


def is_measured(route: str) -> bool:
    """Whether a route to int8 measures ranges of values on samples."""
    return route.startswith("int8") and route != _DYNAMIC_ROUTE


def is_symmetric(route: str) -> bool:
    """Whether the ranges of a route to int8 lie around 0."""
    return route.startswith("int8 symmetric")


def _measured(wide: Wide, convolves: bool, *, symmetric: bool) -> tuple[Route, ...]:
    name = "int8 symmetric" if symmetric else "int8 static"
    rounded = partial(_static, wide=wide, symmetric=symmetric)
    if not convolves:
        return (Route(name, partial(rounded, operators=_PRODUCTS)),)
    alone = partial(rounded, operators=[*_CONVOLUTIONS, *_PRODUCTS])
    return (
        Route(name, partial(rounded, operators=None)),
        Route(f"{name} products", alone, mends=True),
    )


def _float16(
    source: Source,
    folder: Path,
    wide: Wide,
    lacking: Collection[str],
    kept: Collection[str],
    *,
    rounds: bool,
) -> Compiled:
    stay = {*lacking, *kept}
    details = _wide_nodes(stay, wide.without_weights().graph)
    model = in_float16(_make_room(wide), stay)
    share = share_in(model, (TensorProto.FLOAT,), (TensorProto.FLOAT16,))
    if kept and share > 1 - _LEAST_SHARE:
        raise ContractError(
            f"{1 - share:.0%} of its weights would be in float16, less than half: the others are "
            "those of nodes that stay in float32",
            remedy="leave --precision out",
        )
    if share > 1 - _NEARLY_ALL:
        details["float32"] += f", {share:.0%} of the weights"
    if rounds:
        round_each(model, TensorProto.FLOAT16)
    return _packed(model, source, folder, wide, "float16", details)


def _bfloat16(source: Source, folder: Path, wide: Wide) -> Compiled:
    wide_model = wide.without_weights()
    if uses(wide_model.graph, TensorProto.FLOAT16):
        raise ContractError(
            "the module computes in float16 in places, for which bfloat16 cannot stand",
            remedy="ask for --precision float16",
        )
    kept = without_bfloat16(wide_model)
    path = wide.path.with_name(_BFLOAT16_FILE)
    write(in_bfloat16(_make_room(wide), kept), path)
    model = onnx.load(path)
    round_each(model, TensorProto.BFLOAT16)
    details = _wide_nodes(kept, wide_model.graph)
    return _packed(model, source, folder, wide, "bfloat16", details)


def _make_room(wide: Wide) -> Path:
    """See that there is space for what ONNX Runtime's converter writes; the file to convert."""
    _require_space(wide.path.parent, 2 * wide.path.stat().st_size)  # with shapes, then the file
    return wide.path


def _wide_nodes(kept: Collection[str], graph: onnx.GraphProto) -> dict[str, str]:
    count = len([*of_kind("NodeProto", graph)])
    return {"float32": f"in {len(kept)} of {count} nodes"} if kept else {}


def _static(
    source: Source, folder: Path, wide: Wide, operators: list[str] | None, symmetric: bool
) -> Compiled:
    from onnxruntime.quantization import QuantType, quantize_static

    reader: Any = _Inputs(wide.inputs)  # what is asked of a CalibrationDataReader
    with _prepared(wide) as (prepared, made):
        quantize_static(
            prepared,
            made,
            reader,
            op_types_to_quantize=operators,
            nodes_to_exclude=nodes_of_places(onnx.load(prepared, load_external_data=False)),
            per_channel=not has_stacked(wide.path),
            reduce_range=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "ActivationSymmetric": symmetric,
                "MatMulConstBOnly": True,
                "QuantizeBias": not symmetric,  # TensorRT has no int32 there
            },
            use_external_data_format=wide.is_large,
        )
        way = "static, symmetric" if symmetric else "static"
        return _quantized(onnx.load(made), source, folder, wide, way, {"ranges": wide.origin})


def _dynamic(source: Source, folder: Path, wide: Wide) -> Compiled:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _prepared(wide) as (prepared, made):
        model = onnx.load(prepared, load_external_data=False)
        del model.graph.value_info[:]  # of weights too, which are transposed by it
        give_own_weights(model.graph)
        onnx.save_model(model, prepared)
        quantize_dynamic(
            prepared,
            made,
            op_types_to_quantize=_DYNAMIC,
            per_channel=not has_stacked(wide.path),
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={
                "DefaultTensorType": TensorProto.FLOAT,  # of products that it adds
                "EnableSubgraph": True,
            },
            use_external_data_format=wide.is_large,
        )
        return _quantized(onnx.load(made), source, folder, wide, "dynamic", {})


@contextlib.contextmanager
def _prepared(wide: Wide) -> Iterator[tuple[Path, Path]]:
    """The file with its constants folded and its shapes inferred, and where to write the next.

    They are beside it, as is what ONNX Runtime's tools write on the way: the export clears it away,
    also if this process is stopped.

    Raises:
        StorageError: The disk is too small.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    place = wide.path.parent
    size_bytes = sum(stored.size_bytes for stored in wide.compiled.artefact.files)
    _require_space(place, _COPIES * size_bytes)
    with (
        tempfile.TemporaryDirectory(dir=place) as folder,
        mock.patch.object(tempfile, "tempdir", folder),
    ):
        prepared = Path(folder, "prepared.onnx")
        with contextlib.redirect_stdout(io.StringIO()):
            quant_pre_process(
                wide.path,
                prepared,
                skip_symbolic_shape=True,
                save_as_external_data=wide.is_large,
                all_tensors_to_one_file=True,
                external_data_location="prepared.data",
            )
        yield prepared, Path(folder, "made.onnx")


def _require_space(place: Path, needed: int) -> None:
    """ONNX Runtime's tools cut a file short without an error."""
    free = shutil.disk_usage(place).free
    if free < needed:
        raise StorageError(
            f"making the file narrower takes {needed:,} bytes beside the bundle, and {free:,} are "
            "free",
            remedy="choose another place, or free some space",
        )


class _Inputs:
    """Samples one after the other, as ONNX Runtime's calibration asks for them."""

    def __init__(self, inputs: Iterable[Mapping[str, Array]]) -> None:
        self._left = iter(inputs)

    def get_next(self) -> dict[str, Array] | None:
        """The next; ``None`` after the last."""
        return next(map(dict, self._left), None)


def _quantized(
    model: onnx.ModelProto,
    source: Source,
    folder: Path,
    wide: Wide,
    way: str,
    details: Mapping[str, Any],
) -> Compiled:
    share = share_in_int8(model)
    wide_ones = kept_in_float(model) if share < _NEARLY_ALL else []
    told = f": those of {' and '.join(wide_ones)} stay in float32" if wide_ones else ""
    if share < _LEAST_SHARE:
        raise ContractError(
            f"{share:.0%} of its weights would be in int8, less than half{told}",
            remedy="leave --precision out, or ask for float16",
        )
    told = f"{way}, {share:.0%} of the weights{told}"
    if way != "dynamic" and any(node.op_type == _WITHOUT_KERNEL for node in model.graph.node):
        told += f"; ONNX Runtime computes {_WITHOUT_KERNEL} in float32 on the CPU"
    model = in_order(model, merged=True)
    return _packed(model, source, folder, wide, "int8", {"quantization": told, **details})


def _packed(
    model: onnx.ModelProto,
    source: Source,
    folder: Path,
    wide: Wide,
    precision: Precision,
    details: Mapping[str, Any],
) -> Compiled:
    del model.graph.value_info[:]  # of the wide file
    _forget_unused_domains(model)
    artefact = packed(model, source, wide.request, folder, precision, details)
    return Compiled(artefact, wide.compiled.debug_map)


def _forget_unused_domains(model: onnx.ModelProto) -> None:
    """ONNX Runtime's tools import all that they know, and older engines refuse newer ones."""
    used = {m.domain for kind in ("NodeProto", "FunctionProto") for m in of_kind(kind, model)}
    kept = [entry for entry in model.opset_import if not entry.domain or entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)

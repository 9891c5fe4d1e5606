"""From a proved ONNX file to one that computes in less: float16, or int8.

ONNX Runtime's own tools do it. Inputs and outputs stay as they are. int8 is made in three ways,
as none is right for all models: static, with ranges of values that are measured on samples;
dynamic, where they are measured in each call; and static and symmetric, for TensorRT, and for those
on whose kernels the first goes wrong. Weights have seven bits: on a processor without VNNI, eight
saturate (16.8 dB where seven keep 38).
"""

import contextlib
import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto

from edgeport.deploy.sources.source import Source
from edgeport.runtimes import ContractError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.thresholds import Precision

from .onnx_graph import packed
from .onnx_messages import messages
from .routes import Route
from .stored import Compiled
from .targets import OnnxRequest

NARROW: Final[tuple[Precision, ...]] = ("float16", "int8")

_STATIC, _SYMMETRIC = "int8 static", "int8 symmetric"
CALIBRATED: Final = (_STATIC, _SYMMETRIC)
"""Routes that measure ranges of values on samples."""

_LEAST_SHARE: Final = 0.5
"""Of the weights, in int8: or the file is not what was asked for."""
_CONVOLUTIONS: Final = ("Conv", "ConvTranspose")
_DYNAMIC: Final = ["Gather", "LSTM", "MatMul"]
"""Not convolutions: their dynamic kernel takes ten times as long as float32's."""
_BYTES: Final = (TensorProto.INT8, TensorProto.UINT8)
_FLOATS: Final = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


@dataclass(frozen=True, slots=True)
class Wide:
    """The file to begin with.

    Attributes:
        path: Of an ONNX file in float32 that is proved.
        compiled: What its compiler said of it.
        inputs: To measure ranges of values on.
        request: What was asked of it, and is of the narrower one.
        for_engines: Whether engines of TensorRT are to be built from it.
    """

    path: Path
    compiled: Compiled
    inputs: Sequence[Mapping[str, Array]]
    request: OnnxRequest
    for_engines: bool = False


def routes(precision: Precision, wide: Wide) -> tuple[Route, ...]:
    """The ways to a precision, in the order in which they are tried.

    ONNX Runtime's documentation ("Quantize ONNX models") recommends static ranges for convolutions,
    and dynamic ones for transformers and recurrent layers.
    """
    if precision == "float16":
        return (Route("float16", partial(_float16, wide=wide)),)
    static = Route(_STATIC, partial(_static, wide=wide, symmetric=False))
    dynamic = Route("int8 dynamic", partial(_dynamic, wide=wide))
    symmetric = Route(_SYMMETRIC, partial(_static, wide=wide, symmetric=True))
    if wide.for_engines:
        return (symmetric,)
    graph = onnx.load(wide.path, load_external_data=False).graph
    convolves = any(node.op_type in _CONVOLUTIONS for node in graph.node)
    return (static, dynamic, symmetric) if convolves else (dynamic, static, symmetric)


def _float16(source: Source, folder: Path, wide: Wide) -> Compiled:
    import onnx_ir
    from onnxruntime.transformers.float16 import convert_float_to_float16

    made = convert_float_to_float16(onnx.load(wide.path), keep_io_types=True)
    model = onnx_ir.from_proto(made)
    model.graph.sort()  # casts are at the end
    return _packed(onnx_ir.to_proto(model), source, folder, wide, "float16", {})


def _static(source: Source, folder: Path, wide: Wide, symmetric: bool) -> Compiled:
    from onnxruntime.quantization import QuantType, quantize_static

    reader: Any = _Inputs(wide.inputs)  # what is asked of a CalibrationDataReader
    with _prepared(wide.path) as (prepared, made):
        quantize_static(
            prepared,
            made,
            reader,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "ActivationSymmetric": symmetric,
                "MatMulConstBOnly": True,
                "QuantizeBias": not symmetric,  # TensorRT has no int32 there
            },
        )
        way = "static, symmetric" if symmetric else "static"
        return _quantized(onnx.load(made), source, folder, wide, way)


def _dynamic(source: Source, folder: Path, wide: Wide) -> Compiled:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _prepared(wide.path) as (prepared, made):
        model = onnx.load(prepared)
        del model.graph.value_info[:]  # of weights too, which are transposed by it
        quantize_dynamic(
            model,
            made,
            op_types_to_quantize=_DYNAMIC,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        return _quantized(onnx.load(made), source, folder, wide, "dynamic")


@contextlib.contextmanager
def _prepared(path: Path) -> Iterator[tuple[Path, Path]]:
    """The file with its constants folded and its shapes inferred, and where to write the next."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder, "prepared.onnx")
        with contextlib.redirect_stdout(io.StringIO()):
            quant_pre_process(path, prepared, skip_symbolic_shape=True)
        yield prepared, Path(folder, "made.onnx")


class _Inputs:
    """Samples one after the other, as ONNX Runtime's calibration asks for them."""

    def __init__(self, inputs: Iterable[Mapping[str, Array]]) -> None:
        self._left = iter(inputs)

    def get_next(self) -> dict[str, Array] | None:
        """The next; ``None`` after the last."""
        return next(map(dict, self._left), None)


def _quantized(
    model: onnx.ModelProto, source: Source, folder: Path, wide: Wide, way: str
) -> Compiled:
    share = _share(model)
    if share < _LEAST_SHARE:
        raise ContractError(
            f"{share:.0%} of its weights would be in int8, less than half",
            remedy="leave --precision out, or ask for float16",
        )
    told = f"{way}, {share:.0%} of the weights"
    return _packed(model, source, folder, wide, "int8", {"quantization": told})


def _share(model: onnx.ModelProto) -> float:
    """How much of the weights is in one byte; biases, scales and zero points have one axis."""
    sizes = {_BYTES: 0, _FLOATS: 0}
    for message in messages(model):
        if message.DESCRIPTOR.name == "TensorProto" and len(message.dims) > 1:
            for dtypes in sizes:
                if message.data_type in dtypes:
                    sizes[dtypes] += int(np.prod(message.dims, dtype=np.int64))
    total = sum(sizes.values())
    return sizes[_BYTES] / total if total else 0.0


def _packed(
    model: onnx.ModelProto,
    source: Source,
    folder: Path,
    wide: Wide,
    precision: Precision,
    details: Mapping[str, Any],
) -> Compiled:
    del model.graph.value_info[:]  # of the wide file
    artefact = packed(model, source, wide.request, folder, precision, details)
    return Compiled(artefact, wide.compiled.debug_map)

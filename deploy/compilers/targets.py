"""What a device's engine reads, and what is therefore asked of the ONNX exporter.

A device cannot be asked at export time: the table says what was measured with each engine, or
what its maker documents. Where the releases of one row differ, the row holds for the oldest.
"""

import difflib
from dataclasses import dataclass
from typing import Final

from edgeport.runtimes import Signature, UsageError
from edgeport.runtimes.signature import DTYPES

DYNAMO_OPSETS: Final = range(18, 25)
"""What torch 2.13's dynamo exporter writes as asked; below, it stays at 18 and only logs it."""

OPSETS: Final = range(13, DYNAMO_OPSETS.stop)
"""Those below say the same in older words: see ``older_opsets``."""

DEFAULT_OPSET: Final = 20
"""Read by ONNX Runtime 1.18 and newer with the IR version below, and by TensorRT 10 and 11."""

_IR_SINCE_OPSET: Final = ((20, 10), (19, 9), (15, 8), (13, 7))
"""Whoever asks for an old opset has an old reader: it gets the IR version of that time.

From ONNX's own list of releases, except that 20 (published with 9) has 10, as every engine of
the table that reads opset 20 reads it, but for ONNX Runtime 1.17. Nothing is gained by a newer.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """An engine on a device.

    Attributes:
        name: As ``--target`` takes it.
        newest_opset, newest_ir: The engine reads these, and all before them that we write.
        dtypes: Which its inputs and outputs may have.
        source: How we know.
    """

    name: str
    newest_opset: int
    newest_ir: int
    dtypes: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True)
class OnnxRequest:
    """What is asked of the ONNX exporter, and compared with what it wrote.

    Attributes:
        opset: Of the standard operators.
        ir_version: Of the file's format.
        target: Name of the engine it is for, if one was named.
    """

    opset: int
    ir_version: int
    target: str | None = None

    @property
    def written_opset(self) -> int:
        """What the newer exporter writes, of which an older opset is made."""
        return max(self.opset, DYNAMO_OPSETS.start)


# Measured on Linux x86-64: these wheels opened and ran a one-node model of the opset (with IR 7)
# and of the IR version (with opset 13), passed each of the dtypes through unchanged, and refused
# the next opset and the next IR version. 1.15 opens opset 19, but has no Identity, Shape, Reshape
# or Pad of it. At opset 22 and newer no release has RoiAlign: another reason for 20.
_MEASURED: Final = (
    ("1.14", 18, 8, "1.14.1"),
    ("1.15", 18, 9, "1.15.0 and 1.15.1"),
    ("1.16", 19, 9, "1.16.0 and 1.16.3"),
    ("1.17", 20, 9, "1.17.0 and 1.17.3"),
    ("1.18", 21, 10, "1.18.0 and 1.18.1"),
    ("1.19", 21, 10, "1.19.0 and 1.19.2"),
    ("1.20", 21, 10, "1.20.0 and 1.20.1"),
    ("1.21", 22, 10, "1.21.0 and 1.21.1"),
    ("1.22", 22, 10, "1.22.0 and 1.22.1"),
    ("1.23", 23, 11, "1.23.0 and 1.23.2"),
    ("1.24", 25, 13, "1.24.1 and 1.24.4"),
    ("1.25", 26, 13, "1.25.0 and 1.25.1"),
    ("1.26", 26, 13, "1.26.0"),
    ("1.27", 26, 13, "1.27.0"),
    ("1.28", 26, 13, "1.28.0"),
    ("1.29", 26, 13, "1.29.0"),
    ("1.30", 26, 13, "1.30.0"),
    ("1.31", 26, 13, "1.31.0 and 1.31.1"),
    ("1.32", 28, 14, "1.32.0"),
)

# No float64: the parser narrows it to float32. No int8: TensorRT takes it for quantised floats,
# and has no Cast from it. No other integers: TensorRT has no such type.
_TENSORRT_DTYPES: Final = ("bool", "uint8", "int32", "int64", "float16", "float32")

TARGETS: Final = (
    *(
        Target(f"ort-{minor}", opset, ir, DTYPES, f"measured with onnxruntime {wheels}")
        for minor, opset, ir, wheels in _MEASURED
    ),
    Target(
        "tensorrt-10",
        newest_opset=20,
        newest_ir=10,
        dtypes=_TENSORRT_DTYPES,
        source="onnx-tensorrt's docs/operators.md: 10.0 reads opset 9 to 20 (10.15: 24), DOUBLE "
        "is narrowed, UINT8 is for inputs and outputs, INT4 is known, which is IR 10",
    ),
    Target(
        "tensorrt-11",
        newest_opset=24,
        newest_ir=13,
        dtypes=_TENSORRT_DTYPES,
        source="onnx-tensorrt's docs/operators.md: 11.2 reads opset 9 to 24 (NVIDIA's ONNX Opset "
        "Guide for 11.x: 25); the guide names ONNX 1.20, which is IR 13",
    ),
    Target(
        "tensorrt-rtx-1",
        newest_opset=24,
        newest_ir=13,
        dtypes=_TENSORRT_DTYPES,
        source="measured with tensorrt_rtx 1.7.1.116: its parser knows the IR versions up to 13, "
        "which is that of ONNX 1.20 as in TensorRT 11, whose opsets it therefore has; it takes any "
        "opset and IR version without a word. It builds an engine that passes each of the dtypes "
        "through, takes float64 for float32 without a word, and refuses the other integers",
    ),
)


def find_target(name: str) -> Target:
    """The target of that name.

    Raises:
        UsageError: There is none.

    Examples:
        >>> find_target("ort-1.20").newest_opset
        21
    """
    names = [target.name for target in TARGETS]
    if name in names:
        return TARGETS[names.index(name)]
    minor = [known for known in names if name.startswith(f"{known}.")]
    is_release = name.startswith("ort-1.")  # another one is no slip of the pen
    close = minor or ([] if is_release else difflib.get_close_matches(name, names, n=1))
    listing = f"the targets are {', '.join(names)}"
    raise UsageError(
        f"there is no target {name!r}",
        remedy=f"did you mean {close[0]!r}? {listing}" if close else listing,
    )


def negotiate(opset: int | None = None, target: Target | None = None) -> OnnxRequest:
    """Choose the opset and the IR version.

    Args:
        opset: ``None`` for 20, or the newest that the target reads if that is older.
        target: ``None`` for any engine that reads what is asked.

    Raises:
        UsageError: The exporters cannot write the opset, or the target cannot read it.

    Examples:
        >>> negotiate(target=find_target("ort-1.16"))
        OnnxRequest(opset=19, ir_version=9, target='ort-1.16')
    """
    newest = min(OPSETS[-1], target.newest_opset) if target else OPSETS[-1]
    chosen = min(DEFAULT_OPSET, newest) if opset is None else opset
    if chosen not in range(OPSETS.start, newest + 1):
        limit = f"we write {OPSETS.start} to {OPSETS[-1]}"
        if target and chosen in OPSETS:
            limit = f"{target.name} reads up to {newest}"
        raise UsageError(
            f"asked for ONNX opset {chosen}, {limit}",
            remedy=f"use --opset {OPSETS.start} to {newest}, or leave it out",
        )
    ir_version = next(ir for since, ir in _IR_SINCE_OPSET if chosen >= since)
    if target is None:
        return OnnxRequest(chosen, ir_version)
    return OnnxRequest(chosen, min(ir_version, target.newest_ir), target.name)


def check_dtypes(target: Target, signature: Signature) -> None:
    """Refuse a tensor that the target cannot take or give.

    Raises:
        UsageError: An input or output has another dtype than the target's.
    """
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            if spec.dtype not in target.dtypes:
                raise UsageError(
                    f"the {kind} {spec.name!r} is {spec.dtype}, "
                    f"{target.name} takes {', '.join(target.dtypes)}",
                    remedy="convert it in forward, or choose another --target",
                )

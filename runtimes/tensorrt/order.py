"""What is asked of the process that builds an engine, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from edgeport.runtimes.signature import Signature

from .library import Name

Sizes: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an engine is built for: the least, the one it is tuned for, the greatest.

    Of the shape of an input, or of the values of one that says how large something is.
    """

    min: Sizes
    opt: Sizes
    max: Sizes


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine is built. Precision is no option: it is that of the graph.

    Attributes:
        compute_capabilities: Of the GPUs that it is to run on, as ``8.6``; none for all that
            TensorRT-RTX takes by itself, or for the GPU that TensorRT finds.
        workspace_bytes: GPU memory that a layer may use while it runs; ``None`` for all there is.
        timing_cache: A file of measured times, read and written; TensorRT only.
        version_compatible: Runs with later versions of TensorRT too; TensorRT only.
        hardware_compatible: Runs on all GPUs from Ampere on; TensorRT only.
        refit: Its weights can be exchanged.
    """

    compute_capabilities: tuple[str, ...] = ()
    workspace_bytes: int | None = None
    timing_cache: str | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    refit: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """One engine.

    Attributes:
        onnx: Path of the model; files that it names are beside it.
        engine: Path to write.
        signature: What the engine must take and give.
        shapes: By input with a free dimension.
        values: By input of integers, flat: used for one that says how large something is.
        precision: What the model computes in; empty for the dtype of its outputs.
    """

    library: Name
    onnx: str
    engine: str
    signature: Signature
    shapes: Mapping[str, Bounds] = field(default_factory=dict)
    values: Mapping[str, Bounds] = field(default_factory=dict)
    options: EngineOptions = field(default_factory=EngineOptions)
    precision: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step is: a part of 1, and what is being done."""

    done: float
    stage: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Why TensorRT refuses a model.

    Attributes:
        text: Its own words.
        node: Name of the ONNX node, or of its first output; ``None`` if it did not say.
        operator: As ``NonZero``.
    """

    text: str
    node: str | None = None
    operator: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """No engine.

    Attributes:
        phase: ``parse`` if the graph is not understood, ``build`` if no kernels were found.
    """

    phase: Literal["parse", "build"]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Built:
    """An engine was written.

    Attributes:
        version: Of the library.
        inputs_of_values: Inputs that say how large something is.
        warnings: What the library said about it.
    """

    version: str
    inputs_of_values: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

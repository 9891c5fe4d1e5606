"""What an engine takes and gives, read from the engine, and the signature that it carries.

TensorRT keeps no names of dimensions. But it keeps the name of the network, up to 4095 characters,
and edgeport writes the signature there: the file stays one that TensorRT's own tools open.
"""

import base64
import binascii
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeport.runtimes.errors import ContractError, EngineError, FormatError
from edgeport.runtimes.session import Options, check_signature
from edgeport.runtimes.signature import METADATA_KEY, Range, Signature, TensorSpec

from .api import ICudaEngine
from .order import Bounds

PROFILE: Final = 0
"""A new context has this one, and edgeport builds no second."""

_MARK: Final = f"{METADATA_KEY}:"
_PRECISION: Final = ";"
_LONGEST_NAME: Final = 4095  # the interface says 4096 with the zero at its end
_LONGEST_TEXT: Final = 2**20

ANSWERED: Final = "edgeport.answered"
"""An output that is not the signature's: false if the module takes another way than the engine."""

REFUSES_BY: Final = "refuses_by"
"""Among the details of an artefact: that output, if it has it."""

DTYPES: Final = {
    "BOOL": "bool",
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of an engine.

    Attributes:
        shape: -1 for a free dimension.
        on_host: Whether TensorRT reads or writes it in the host's memory.
        shapes: For which it was built; ``None`` for an output, or if nothing is free.
        values: For which it was built, if they say how large something is.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    on_host: bool
    shapes: Bounds | None = None
    values: Bounds | None = None

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.dtype}[{', '.join('?' if s < 0 else str(s) for s in self.shape)}]"
        )


@dataclass(frozen=True, slots=True)
class Tensors:
    """Of an engine, in its order or in that of a signature.

    Attributes:
        inputs: All of them.
        outputs: All but ``ANSWERED``.
        answered: That one, if it has it.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    answered: tuple[Tensor, ...] = ()

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.inputs))} -> {', '.join(map(str, self.outputs))}"

    def like(self, signature: Signature) -> "Tensors":
        """The same in the order of a signature, whose names they have."""
        tensors = {each.name: each for each in (*self.inputs, *self.outputs)}
        return Tensors(
            tuple(tensors[spec.name] for spec in signature.inputs),
            tuple(tensors[spec.name] for spec in signature.outputs),
            self.answered,
        )


def read(engine: ICudaEngine, file: str) -> Tensors:
    """Ask an engine what it takes and gives.

    Args:
        engine: The engine.
        file: What to call it in an error.

    Raises:
        EngineError: It has a tensor that cannot be passed.
    """
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name).name == "INPUT"]
    outputs = [_tensor(engine, name, file) for name in names if name not in inputs]
    return Tensors(
        tuple(_input(engine, name, file) for name in inputs),
        tuple(each for each in outputs if each.name != ANSWERED),
        tuple(each for each in outputs if each.name == ANSWERED),
    )


def carry(signature: Signature, precision: str = "") -> str | None:
    """The name of a network that carries a signature; ``None`` if it is too long for one.

    A longer name is dropped by TensorRT, with an error in its log only. About 300 tensors fit; an
    engine with more has its signature from the bundle.

    Args:
        signature: Of the network.
        precision: What it computes in, where that is not the dtype of its outputs.
    """
    packed = base64.b64encode(zlib.compress(json.dumps(signature.to_json()).encode(), 9))
    name = _MARK + packed.decode()
    if precision not in ("", signature.precision):
        name += f"{_PRECISION}{precision}"
    return name if len(name) <= _LONGEST_NAME else None


def precision_of(name: str, signature: Signature) -> str:
    """What an engine computes in, as far as its network's name tells.

    Examples:
        >>> precision_of("edgeport.signature:eJyr;int8", Signature((), ()))
        'int8'
    """
    carried = name.partition(_PRECISION)[2] if name.startswith(_MARK) else ""
    return carried or signature.precision


def signature(path: Path, tensors: Tensors, name: str, options: Options) -> Signature:
    """The signature that an engine carries, else the one that was asked for, else its own view.

    Args:
        path: Of the engine's file.
        tensors: What the engine takes and gives.
        name: Of its network.
        options: What the caller asked.

    Raises:
        FormatError: What it carries is no signature.
        ContractError: It is not the engine's, or not the one asked for.
    """
    file = options.name or str(path)
    declared = _carried(name, file) or options.signature or _own(tensors)
    if not _fits(declared, tensors):
        raise ContractError(
            f"{file} declares {declared}\n  but the engine has {tensors}",
            remedy="export the model again; the file is the engine of another model",
        )
    check_signature(path, declared, options)
    return declared


def _carried(name: str, file: str) -> Signature | None:
    if not name.startswith(_MARK):
        return None
    try:
        packed = base64.b64decode(name.removeprefix(_MARK).partition(_PRECISION)[0], validate=True)
        text = zlib.decompressobj().decompress(packed, _LONGEST_TEXT)
    except (binascii.Error, zlib.error) as e:
        raise FormatError(
            f"{file}: the signature that it carries is damaged: {e}", remedy="export it again"
        ) from e
    return Signature.loads(text, file)


def _own(tensors: Tensors) -> Signature:
    """Free dimensions are named by input and axis, and have the profile's ranges."""
    ranges = {
        f"{each.name}_{axis}": Range(low, high, opt)
        for each in tensors.inputs
        if each.shapes is not None
        for axis, (low, opt, high) in enumerate(
            zip(each.shapes.min, each.shapes.opt, each.shapes.max, strict=True)
        )
        if each.shape[axis] < 0
    }
    inputs, outputs = (tuple(map(_spec, each)) for each in (tensors.inputs, tensors.outputs))
    return Signature(inputs, outputs, ranges)


def _spec(tensor: Tensor) -> TensorSpec:
    shape = (size if size >= 0 else f"{tensor.name}_{a}" for a, size in enumerate(tensor.shape))
    return TensorSpec(tensor.name, tensor.dtype, tuple(shape))


def _fits(declared: Signature, tensors: Tensors) -> bool:
    return _fit(declared.inputs, tensors.inputs) and _fit(declared.outputs, tensors.outputs)


def _fit(specs: Sequence[TensorSpec], tensors: Sequence[Tensor]) -> bool:
    """TensorRT may leave open what is declared fixed, and an output's size may be known to it."""
    found = {each.name: each for each in tensors}
    return found.keys() == {spec.name for spec in specs} and all(
        tensor.dtype == spec.dtype
        and len(tensor.shape) == len(spec.shape)
        and all(
            size < 0 or size == asked or (isinstance(asked, str) and tensor.shapes is None)
            for size, asked in zip(tensor.shape, spec.shape, strict=True)
        )
        for spec in specs
        for tensor in (found[spec.name],)
    )


def _input(engine: ICudaEngine, name: str, file: str) -> Tensor:
    found = _tensor(engine, name, file)
    shapes = values = None
    if -1 in found.shape:
        shapes = Bounds(*(tuple(each) for each in engine.get_tensor_profile_shape(name, PROFILE)))
    if found.on_host and engine.is_shape_inference_io(name):
        # the parameters' names are swapped in the bindings, not their types
        given = engine.get_tensor_profile_values(PROFILE, name)
        values = Bounds(*(tuple(each) for each in given)) if given else None
    return Tensor(name, found.dtype, found.shape, found.on_host, shapes, values)


def _tensor(engine: ICudaEngine, name: str, file: str) -> Tensor:
    dtype = engine.get_tensor_dtype(name).name
    if dtype not in DTYPES:
        raise EngineError(
            f"{file}: {name!r} is {dtype}, which edgeport cannot pass",
            remedy=f"build the engine with one of {', '.join(DTYPES)} there",
        )
    layout = engine.get_tensor_format(name).name
    if layout != "LINEAR":
        raise EngineError(
            f"{file}: {name!r} is laid out as {layout}, and edgeport passes LINEAR only",
            remedy="build the engine without other formats for its inputs and outputs",
        )
    return Tensor(
        name,
        DTYPES[dtype],
        tuple(engine.get_tensor_shape(name)),
        on_host=engine.get_tensor_location(name).name == "HOST",
    )

"""What goes in and what comes out: names, dtypes, shapes and the sizes a dimension may take.

The same value is written into the manifest and into every artefact, and read back from both,
so that "what you asked" can be compared with "what you got".
"""

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from edgeport.runtimes.formats.strict_json import expect, fields, parse

from .errors import FormatError, UsageError
from .sizes import Sum, sum_of
from .values import dataclass, field

if TYPE_CHECKING:  # most results are flat, and every import is felt on a small device
    from .inputs import Array
    from .structure import Node

DTYPES: Final = (
    "bool",
    "uint8", "uint16", "uint32", "uint64",
    "int8", "int16", "int32", "int64",
    "float16", "float32", "float64",
)  # fmt: skip  # grouped by kind; all are native numpy dtypes

METADATA_KEY: Final = "edgeport.signature"
"""Under this key an ONNX file carries its signature."""
PRECISION_KEY: Final = "edgeport.precision"
"""And under this what it computes in, if that is narrower than its outputs."""

LARGEST_DIMENSION: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Range:
    """The sizes that a named dimension may take.

    Attributes:
        min: Smallest size, inclusive.
        max: Largest size, inclusive; ``None`` for no limit.
        opt: The size to tune for; ``None`` if no one size matters more.
        step: Only its multiples are allowed; ``min`` and ``max`` become the outermost of them.

    Examples:
        >>> print(Range(20, 500, step=32))
        32..480 in steps of 32
        >>> 64 in Range(20, 500, step=32), 65 in Range(20, 500, step=32)
        (True, False)
    """

    min: int = 1
    max: int | None = None
    opt: int | None = None
    step: int = 1

    @property
    def largest(self) -> int:
        """The largest size, limited or not."""
        return LARGEST_DIMENSION if self.max is None else self.max

    def __post_init__(self) -> None:
        top = self.largest
        opt = self.min if self.opt is None else self.opt
        if not 0 <= self.min <= opt <= top <= LARGEST_DIMENSION:
            raise FormatError(
                f"a range needs 0 <= min <= opt <= max <= {LARGEST_DIMENSION}, "
                f"got {self}{'' if self.opt is None else f' with opt {self.opt}'}",
                remedy="write it as name:MIN..MAX, for example time:1..512",
            )
        if not 1 <= self.step <= LARGEST_DIMENSION:
            raise FormatError(
                f"the step of a range is {self.step}, expected 1 to {LARGEST_DIMENSION}",
                remedy="write it as name:MIN..MAX:STEP, for example height:32..512:32",
            )
        low, high = -(-self.min // self.step) * self.step, top // self.step * self.step
        if low > high:
            raise FormatError(
                f"no multiple of {self.step} is in {self.min}..{top}",
                remedy="widen the range, or choose a smaller step",
            )
        if self.opt is not None and self.opt % self.step:
            raise FormatError(
                f"the size to tune for is {self.opt}, which is no multiple of {self.step}",
                remedy=f"choose opt among the sizes that are allowed, such as {low}",
            )
        object.__setattr__(self, "min", low)
        object.__setattr__(self, "max", None if self.max is None else high)

    def __contains__(self, size: int) -> bool:
        return self.min <= size and (self.max is None or size <= self.max) and size % self.step == 0

    def __str__(self) -> str:
        ends = f"{self.min}..{'' if self.max is None else self.max}"
        return ends if self.step == 1 else f"{ends} in steps of {self.step}"

    def nearest(self, size: int) -> int:
        """The largest allowed size that is not above ``size``; the smallest if there is none."""
        top = size if self.max is None else min(size, self.max)
        return max(self.min, top // self.step * self.step)

    def parts(self, rows: int, most: int) -> list[slice]:
        """Cut rows into nearly equal parts that are allowed, of at most ``most`` if that can be.

        What is no whole number of steps is in the last part, which then is not allowed.
        """
        steps, largest = rows // self.step, self.nearest(max(most, self.step)) // self.step or 1
        count = min(math.ceil(steps / largest), steps // max(1, self.min // self.step))
        ends = [n * steps // count * self.step for n in range(1, count)]
        return [slice(*pair) for pair in itertools.pairwise([0, *ends, rows])] if rows else []


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a signature.

    Attributes:
        name: As the artefact spells it.
        dtype: One of ``DTYPES``.
        shape: An int is fixed, a name is free and equal wherever it appears; ``past+time`` or
            ``2*height-1`` follows the free dimensions that it names.

    Examples:
        >>> str(TensorSpec("image", "float32", ("batch", 3, 224, 224)))
        'image: float32[batch, 3, 224, 224]'
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable():
            raise FormatError(
                f"a tensor is named {self.name!r}", remedy="give it a name that can be printed"
            )
        if self.dtype not in DTYPES:
            raise FormatError(
                f"{self.name!r} has dtype {self.dtype!r}", remedy=f"use one of {', '.join(DTYPES)}"
            )
        for size in self.shape:
            if not (size.isprintable() and size if isinstance(size, str) else _is_size(size)):
                raise FormatError(
                    f"{self.name!r} has a dimension {size!r}",
                    remedy=f"use a name, or a number from 0 to {LARGEST_DIMENSION}",
                )

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class Signature:
    """Ordered inputs and outputs, the ranges of their named dimensions, the shape of the result.

    Attributes:
        inputs: In the order that the module takes them.
        outputs: In the order that every artefact gives them.
        ranges: By dimension; where nothing is said, 1 and up.
        structure: How the module nests its outputs, as ``structure.Node``; ``None`` if it does
            not: one output alone, or a tuple of them in order.

    Examples:
        >>> x = TensorSpec("x", "float32", ("batch", 4))
        >>> y = TensorSpec("y", "float32", ("batch", 1))
        >>> signature = Signature((x,), (y,), {"batch": Range(1, 8)})
        >>> print(signature)
        x: float32[batch, 4] -> y: float32[batch, 1] where batch in 1..8
        >>> Signature.from_json(signature.to_json()) == signature
        True
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ranges: Mapping[str, Range] = field(default_factory=dict)
    structure: "Node | None" = None

    def __post_init__(self) -> None:
        for specs in (self.inputs, self.outputs):
            names = [spec.name for spec in specs]
            if len(set(names)) != len(names):
                raise FormatError(
                    f"two tensors share a name: {', '.join(names)}",
                    remedy="give every input, and every output, a name of its own",
                )
        if self.structure is not None:
            from .structure import check_structure

            check_structure(self.structure, [spec.name for spec in self.outputs])
        free = {size for spec in (*self.inputs, *self.outputs) for size in spec.shape}
        for name in self.ranges:
            if name not in free:
                raise FormatError(
                    f"a range is given for {name!r}, which is no dimension of {self}",
                    remedy=f"the free dimensions are {', '.join(self.dimensions) or 'none'}",
                )

    def __str__(self) -> str:
        text = f"{', '.join(map(str, self.inputs))} -> {', '.join(map(str, self.outputs))}"
        if self.structure is not None:
            from .structure import describe

            text += f" as {describe(self.structure)}"
        ranges = ", ".join(f"{name} in {range_}" for name, range_ in self.ranges.items())
        return f"{text} where {ranges}" if ranges else text

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the free dimensions of the inputs, in order of appearance.

        Those that follow others are not free.
        """
        sums = self.sums
        return tuple(name for name in _named(self.inputs) if name not in sums)

    @property
    def sums(self) -> dict[str, Sum]:
        """The sizes of the inputs that follow their free dimensions, as they are written."""
        named = _named(self.inputs)
        found = {name: follows for name in named if (follows := sum_of(name)) is not None}
        return {name: each for name, each in found.items() if each.factors.keys() <= named.keys()}

    @property
    def sizes_follow(self) -> bool:
        """Whether the sizes of the inputs tell those of the outputs."""
        free = {*self.dimensions}
        found = ((name, sum_of(name)) for name in _named(self.outputs))
        return all(
            name in free or (follows is not None and follows.factors.keys() <= free)
            for name, follows in found
        )

    @property
    def precision(self) -> str:
        """The dtype of the first output of floats; "integer" if there is none."""
        floats = (spec.dtype for spec in self.outputs if spec.dtype.startswith("float"))
        return next(floats, "integer")

    def range_of(self, dimension: str) -> Range:
        """The sizes that ``dimension`` may take; 1 and up where nothing was declared."""
        follows = sum_of(dimension)
        if follows is None or not follows.factors.keys() <= {*self.dimensions}:
            return self.ranges.get(dimension, Range())
        parts = {name: self.range_of(name) for name in follows.factors}
        ends = (
            follows.at({name: part.min for name, part in parts.items()}),
            follows.at({name: part.largest for name, part in parts.items()}),
        )
        least, most = (max(0, min(end, LARGEST_DIMENSION)) for end in ends)
        return Range(least, None if any(part.max is None for part in parts.values()) else most)

    def rebuild(self, outputs: Mapping[str, "Array"]) -> object:
        """Nest what ``session.run`` returned as the module nested it.

        A dataclass, named tuple or ModelOutput becomes a dict: a device does not have its class.

        Raises:
            UsageError: The outputs are not those of this signature.

        Examples:
            >>> import numpy as np
            >>> outputs = {"y": np.array([1.0]), "z": np.array([2.0])}  # from session.run
            >>> specs = tuple(TensorSpec(name, "float64", (1,)) for name in outputs)
            >>> pair = {"tuple": [{"output": "z"}, {"constant": None}]}
            >>> nested = {"dict": [["scores", {"output": "y"}], ["rest", pair]]}
            >>> Signature((), specs, structure=nested).rebuild(outputs)
            {'scores': array([1.]), 'rest': (array([2.]), None)}
            >>> Signature((), specs).rebuild(outputs)
            (array([1.]), array([2.]))
        """
        names = [spec.name for spec in self.outputs]
        if outputs.keys() != set(names):
            raise UsageError(
                f"got {', '.join(outputs) or 'nothing'} to rebuild a result from, "
                f"expected {', '.join(names) or 'nothing'}",
                remedy="pass what run() of a session with this signature returned",
            )
        if self.structure is not None:
            from .structure import rebuild

            return rebuild(self.structure, outputs)
        return outputs[names[0]] if len(names) == 1 else tuple(outputs[name] for name in names)

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``."""
        return {
            "inputs": [_spec_to_json(spec) for spec in self.inputs],
            "outputs": [_spec_to_json(spec) for spec in self.outputs],
            "ranges": {name: _range_to_json(range_) for name, range_ in self.ranges.items()},
            "structure": self.structure,
        }

    @classmethod
    def from_json(cls, value: object) -> "Signature":
        """Read what ``to_json`` wrote.

        Raises:
            FormatError: ``value`` is not a signature.
        """
        try:
            inputs, outputs, ranges, structure = fields(
                value, "inputs", "outputs", "ranges", "structure"
            )
            return cls(
                tuple(map(_spec_from_json, expect(list, inputs, "inputs"))),
                tuple(map(_spec_from_json, expect(list, outputs, "outputs"))),
                {
                    name: _range_from_json(range_)
                    for name, range_ in expect(dict, ranges, "ranges").items()
                },
                structure,
            )
        except FormatError:
            raise
        except ValueError as e:
            raise FormatError(f"not a signature: {e}", remedy=_DAMAGED) from e

    @classmethod
    def loads(cls, text: str | bytes, file: str) -> "Signature":
        """Read a signature that travels as text inside an artefact.

        Args:
            text: The JSON.
            file: Where it was found, for the error.

        Raises:
            FormatError: ``text`` is not a signature.
        """
        try:
            return cls.from_json(parse(text))
        except FormatError as e:
            raise FormatError(f"{file}: {e.problem}", remedy=e.remedy) from e
        except ValueError as e:
            raise FormatError(f"{file}: not a signature: {e}", remedy=_DAMAGED) from e


def _named(specs: Iterable[TensorSpec]) -> dict[str, None]:
    """The sizes that are no numbers, in order of appearance."""
    return dict.fromkeys(size for spec in specs for size in spec.shape if isinstance(size, str))


_DAMAGED: Final = "export the model again; the file was edited or is damaged"


def _spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def _spec_from_json(value: object) -> TensorSpec:
    name, dtype, shape = fields(value, "name", "dtype", "shape")
    return TensorSpec(
        expect(str, name, "a name"),
        expect(str, dtype, "a dtype"),
        tuple(
            size if isinstance(size, str) else expect(int, size, "a size")
            for size in expect(list, shape, "a shape")
        ),
    )


def _range_to_json(range_: Range) -> dict[str, int | None]:
    """A step is written where there is one: readers that know of none then refuse it."""
    step = {} if range_.step == 1 else {"step": range_.step}
    return {"min": range_.min, "max": range_.max, "opt": range_.opt, **step}


def _range_from_json(value: object) -> Range:
    known = {"step": 1, **expect(dict, value, "a value")}
    *sizes, step = fields(known, "min", "max", "opt", "step")
    low, high, opt = (
        None if size is None else expect(int, size, "an end of a range") for size in sizes
    )
    return Range(expect(int, low, "min"), high, opt, expect(int, step, "a step"))


def _is_size(size: int) -> bool:
    return not isinstance(size, bool) and 0 <= size <= LARGEST_DIMENSION

"""The one check of inputs: the same mistake gets the same error on every engine.

It runs before every inference, so it is compiled once per signature and remembers the last
shapes it accepted; ``scripts/bench_overhead.py`` measures what it costs.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np

from .errors import InputError
from .signature import Signature, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]
else:  # every import is felt on a small device
    Array = np.ndarray


class InputCheck:
    """Check a mapping of inputs against a signature.

    Safe to share between threads: the remembered shapes are replaced, never changed.
    """

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._plan = tuple((spec.name, np.dtype(spec.dtype), spec) for spec in signature.inputs)
        self._accepted: list[tuple[int, ...]] | None = None
        self._sums = signature.sums

    def __call__(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Return the arrays in the order of the signature, each aligned and C-contiguous.

        Raises:
            InputError: A name, dtype, byte order, rank or size does not fit.
        """
        arrays, shapes = [], []
        for name, dtype, spec in self._plan:
            try:
                array = inputs[name]
            except (KeyError, TypeError, IndexError, ValueError):  # no such name, or no mapping
                self._reject_names(inputs)
            if type(array) is not np.ndarray:
                array = _plain(array, spec)
            if array.dtype is not dtype and array.dtype != dtype:  # native dtypes are singletons
                raise _wrong_dtype(array, spec)
            flags = array.flags
            if not (flags.c_contiguous and flags.aligned):
                array = array.copy(order="C")
            arrays.append(array)
            shapes.append(array.shape)
        if len(inputs) != len(arrays):
            self._reject_names(inputs)
        if shapes != self._accepted:
            self._check_shapes(shapes)
            self._accepted = shapes
        return arrays

    def _reject_names(self, inputs: object) -> NoReturn:
        expected = [spec.name for spec in self._signature.inputs]
        if not isinstance(inputs, Mapping):
            raise InputError(
                f"inputs must be a mapping of name to array, got {type(inputs).__name__}",
                remedy=f"pass {{{', '.join(f'{name!r}: ...' for name in expected)}}}",
            )
        missing = [name for name in expected if name not in inputs]
        surplus = [name for name in inputs if name not in expected]
        wrong = [
            f"missing {_names(missing)}" if missing else "",
            f"unknown {_names(surplus)}" if surplus else "",
        ]
        import difflib  # for an error only: every import of ours is felt on a small device

        close = difflib.get_close_matches(str(surplus[0]), missing, n=1) if surplus else []
        raise InputError(
            f"wrong input names: {', '.join(filter(None, wrong))}",
            remedy=f"rename {surplus[0]!r} to {close[0]!r}"
            if close
            else f"this model takes {_names(expected)}",
        )

    def _check_shapes(self, shapes: list[tuple[int, ...]]) -> None:
        sizes: dict[str, tuple[int, str]] = {}  # dimension -> its size and the input that set it
        for spec, shape in zip(self._signature.inputs, shapes, strict=True):
            if len(shape) != len(spec.shape):
                raise InputError(
                    f"input {spec.name!r} has {len(shape)} axes {_shape(shape)}, "
                    f"expected {len(spec.shape)}: {_shape(spec.shape)}",
                    remedy="add the missing axis with array[None]"
                    if len(shape) == len(spec.shape) - 1
                    else f"reshape it to {_shape(spec.shape)}",
                )
            for axis, (size, expected) in enumerate(zip(shape, spec.shape, strict=True)):
                if isinstance(expected, int):
                    if size != expected:
                        raise _wrong_size(spec, shape, axis, str(expected))
                elif size not in self._signature.range_of(expected):
                    range_ = self._signature.range_of(expected)
                    raise _wrong_size(spec, shape, axis, f"{expected} in {range_}")
                elif sizes.setdefault(expected, (size, spec.name))[0] != size:
                    first, owner = sizes[expected]
                    raise InputError(
                        f"dimension {expected!r} is {first} in input {owner!r} "
                        f"but {size} in input {spec.name!r} (axis {axis})",
                        remedy=f"give every input the same {expected!r}",
                    )
        if self._sums:
            self._check_sums({name: size for name, (size, _) in sizes.items()})

    def _check_sums(self, sizes: Mapping[str, int]) -> None:
        """See that what follows other dimensions does."""
        for name, follows in self._sums.items():
            if follows.at(sizes) != sizes[name]:
                spec = next(spec for spec in self._signature.inputs if name in spec.shape)
                given = " and ".join(f"{each} is {sizes[each]}" for each in follows.factors)
                raise InputError(
                    f"input {spec.name!r} has {sizes[name]} on axis {spec.shape.index(name)}, "
                    f"expected {name}, which is {follows.at(sizes)} where {given}",
                    remedy=f"the model takes {spec}",
                )


def _plain(value: object, spec: TensorSpec) -> Array:
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(
            f"input {spec.name!r} is a masked array, and engines would ignore the mask",
            remedy="fill it first: array.filled(0)",
        )
    if isinstance(value, np.generic | np.ndarray):  # numpy scalars, memory maps, subclasses
        return np.asarray(value)
    raise InputError(
        f"input {spec.name!r} is of type {type(value).__name__}, expected a numpy array",
        remedy=f"pass np.asarray(value, dtype=np.{_numpy_name(spec.dtype)})",
    )


def _wrong_dtype(array: Array, spec: TensorSpec) -> InputError:
    native = array.dtype.newbyteorder("=") == np.dtype(spec.dtype)
    found = f"{array.dtype.name} in foreign byte order" if native else array.dtype.name
    return InputError(
        f"input {spec.name!r} is {found}, expected {spec.dtype}",
        remedy=f"convert it: array.astype(np.{_numpy_name(spec.dtype)})",
    )


def _wrong_size(spec: TensorSpec, shape: tuple[int, ...], axis: int, expected: str) -> InputError:
    return InputError(
        f"input {spec.name!r} has shape {_shape(shape)}: axis {axis} is {shape[axis]}, "
        f"expected {expected}",
        remedy=f"the model takes {spec}",
    )


def _numpy_name(dtype: str) -> str:
    return "bool_" if dtype == "bool" else dtype


def _shape(shape: tuple[int | str, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _names(names: list[str]) -> str:
    return ", ".join(map(repr, names)) or "nothing"

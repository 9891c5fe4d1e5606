"""The reference: what the eager module answers, and what it answers in float64 (the oracle)."""

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from edgeport.deploy.sources.flat import Flat
from edgeport.deploy.sources.source import Source, range_remedy, run_module
from edgeport.runtimes import Signature, SourceError
from edgeport.runtimes.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.torch_calls import last_line


def make_golden(source: Source) -> tuple[Golden, ...]:
    """Answer every sample, eager and in float64.

    An edge case that the module itself rejects is left out: nothing has to agree with an error.
    So is one whose integers hang on rounding, such as the order of equal values in topk: torch
    promises nothing there.

    Raises:
        SourceError: The module fails on a sample that is not an edge case.
    """
    double = source.flat.widened(torch.float64)
    golden = []
    with contextlib.redirect_stdout(io.StringIO()):  # what forward prints was seen once
        for sample in source.samples:
            try:
                eager = _named(source.signature, run_module(source.flat, sample.inputs))
            except Exception as e:  # the user's module may raise anything
                if sample.kind == "edge":
                    continue
                raise SourceError(
                    f"{type(source.module).__name__} fails on the sample {sample.name!r}: "
                    f"{type(e).__name__}: {last_line(e)}",
                    remedy=range_remedy(_sizes(source.signature, sample.inputs)),
                ) from e
            if sample.kind == "edge" and _hangs_on_rounding(source, sample.inputs, eager):
                continue
            oracle = _oracle(double, source.signature, sample.inputs, eager)
            golden.append(Golden(sample.name, sample.kind, sample.inputs, eager, oracle))
    return tuple(golden)


def _hangs_on_rounding(
    source: Source, inputs: Mapping[str, Array], eager: Mapping[str, Array]
) -> bool:
    """Whether integers or bools change when the inputs change by about one rounding error."""
    exact = [name for name, array in eager.items() if array.dtype.kind != "f"]
    if not exact or not any(array.dtype.kind == "f" for array in inputs.values()):
        return False
    generator = np.random.default_rng(0)
    near = {name: _jittered(array, generator) for name, array in inputs.items()}
    try:
        again = _named(source.signature, run_module(source.flat, near))
    except Exception:  # the user's module may raise anything
        return True
    return not all(np.array_equal(again[name], eager[name]) for name in exact)


def _jittered(array: Array, generator: np.random.Generator) -> Array:
    if array.dtype.kind != "f":
        return array
    scale = np.finfo(array.dtype).eps * max(1.0, float(np.abs(array).max(initial=0.0)))
    near: Array = array + scale * generator.standard_normal(array.shape)
    return near.astype(array.dtype)


def _oracle(
    double: Flat, signature: Signature, inputs: Mapping[str, Array], eager: Mapping[str, Array]
) -> dict[str, Array]:
    """The float outputs in float64; none where the module cannot run, or falls back, to less."""
    try:
        with float64_everywhere():
            outputs = _named(signature, run_module(double, inputs))
    except Exception:  # an operator that has no float64; the verdict says which rule held
        return {}
    return {
        name: array
        for name, array in outputs.items()
        if array.dtype == np.float64 and array.shape == eager[name].shape
    }


@contextlib.contextmanager
def float64_everywhere() -> Iterator[None]:
    """Whatever forward makes itself is float64 too, and what it casts to less stays float64."""
    before = torch.get_default_dtype()
    enter = torch.autocast.__enter__

    def enter_disabled(autocast: torch.autocast) -> Any:
        autocast._enabled = False
        return enter(autocast)  # type: ignore[no-untyped-call]  # torch has no types here

    try:
        torch.set_default_dtype(torch.float64)
        torch.autocast.__enter__ = enter_disabled  # type: ignore[method-assign]
        with _NoNarrowing():
            yield
    finally:
        torch.set_default_dtype(before)
        torch.autocast.__enter__ = enter  # type: ignore[method-assign]


class _NoNarrowing(TorchFunctionMode):
    """Every dtype of floats that is asked for, in a cast or a new tensor, is float64."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16):
            func = torch.Tensor.double
        wide = {key: _wide(value) for key, value in (kwargs or {}).items()}
        return func(*map(_wide, args), **wide)


def _wide(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value.is_floating_point else value


def _named(signature: Signature, arrays: Sequence[Array]) -> dict[str, Array]:
    return {spec.name: array for spec, array in zip(signature.outputs, arrays, strict=True)}


def _sizes(signature: Signature, inputs: Mapping[str, Array]) -> dict[str, int]:
    return {
        size: inputs[spec.name].shape[axis]
        for spec in signature.inputs
        for axis, size in enumerate(spec.shape)
        if isinstance(size, str)
    }

"""The reference: what the eager module answers, and what it answers in float64 (the oracle)."""

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from edgeport.runtimes import Signature, SourceError
from edgeport.runtimes.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.torch_calls import last_line

from .source import Source, range_remedy, run_module


def make_golden(source: Source) -> tuple[Golden, ...]:
    """Answer every sample, eager and in float64.

    An edge case that the module itself rejects is left out: nothing has to agree with an error.

    Raises:
        SourceError: The module fails on a sample that is not an edge case.
    """
    double = copy.deepcopy(source.module).double()
    golden = []
    for sample in source.samples:
        try:
            eager = _named(source.signature, run_module(source.module, sample.inputs)[1])
        except Exception as e:  # the user's module may raise anything
            if sample.kind == "edge":
                continue
            raise SourceError(
                f"{type(source.module).__name__} fails on the sample {sample.name!r}: "
                f"{type(e).__name__}: {last_line(e)}",
                remedy=range_remedy(_sizes(source.signature, sample.inputs)),
            ) from e
        oracle = _oracle(double, source.signature, sample.inputs, eager)
        golden.append(Golden(sample.name, sample.kind, sample.inputs, eager, oracle))
    return tuple(golden)


def _oracle(
    double: nn.Module, signature: Signature, inputs: Mapping[str, Array], eager: Mapping[str, Array]
) -> dict[str, Array]:
    """The float outputs in float64; none where the module cannot run, or falls back, to less."""
    wide = {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in inputs.items()}
    try:
        with _default_dtype(torch.float64):  # for tensors that forward makes itself
            outputs = _named(signature, run_module(double, wide)[1])
    except Exception:  # a module that casts to float32 on its way; the verdict says which rule held
        return {}
    return {
        name: array
        for name, array in outputs.items()
        if array.dtype == np.float64 and array.shape == eager[name].shape
    }


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _named(signature: Signature, arrays: Sequence[Array]) -> dict[str, Array]:
    return {spec.name: array for spec, array in zip(signature.outputs, arrays, strict=True)}


def _sizes(signature: Signature, inputs: Mapping[str, Array]) -> dict[str, int]:
    return {
        size: inputs[spec.name].shape[axis]
        for spec in signature.inputs
        for axis, size in enumerate(spec.shape)
        if isinstance(size, str)
    }

"""A source: a module in eval mode with everything that is needed to compile and to prove it."""

import copy
import difflib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from edgeport.runtimes import Range, Signature, SourceError, TensorSpec, UsageError
from edgeport.runtimes.inputs import Array, InputCheck
from edgeport.runtimes.torch_calls import last_line, leaves

from .samples import Sample, Values, build_samples, inputs_at, other_sizes, usual_sizes


@dataclass(frozen=True, slots=True)
class Source:
    """What is compiled, and what it is proved with.

    Attributes:
        name: The model's name.
        module: In eval mode; never changed, always copied.
        signature: Inputs as declared, outputs as measured.
        example: Inputs to compile with; every free dimension is 2 or more.
        samples: Inputs to prove with.
    """

    name: str
    module: nn.Module
    signature: Signature
    example: Mapping[str, Array]
    samples: tuple[Sample, ...]

    def example_tensors(self) -> tuple[torch.Tensor, ...]:
        """Fresh copies of the example, in the order of forward."""
        return tuple(torch.tensor(array) for array in self.example.values())

    def copy_module(self) -> nn.Module:
        """A copy for a compiler to write into."""
        return copy.deepcopy(self.module)


def make_source(
    name: str,
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    ranges: Mapping[str, Range],
    *,
    values: Values | None = None,
    output_names: Sequence[str] | None = None,
) -> Source:
    """Check that a module runs as declared, and measure what comes out.

    Args:
        name: The model's name.
        module: Copied; its training mode is left as it is.
        inputs: As the artefacts will declare them.
        ranges: Sizes that the free dimensions may take.
        values: Where the values of samples come from; ``None`` to draw them.
        output_names: In the order of the result; ``None`` to make them.

    Raises:
        UsageError: A free dimension has a range of one size.
        SourceError: The inputs do not fit forward, a sample does not fit the inputs, the module
            fails on a size that was declared, is not deterministic, or its outputs are not tensors.
    """
    values = values or Values()
    module = copy.deepcopy(unwrapped(module)).eval()
    inputs = _in_order_of_forward(module, inputs)
    declared = Signature(tuple(inputs), (), dict(ranges))
    _check_ranges(declared)
    _check_real(declared, values.real)
    samples = build_samples(declared, values)
    example = inputs_at(declared, usual_sizes(declared), values, seed=0)
    outputs = _measure_outputs(module, declared, values, output_names)
    shared = {spec.name for spec in inputs} & {spec.name for spec in outputs}
    if shared:
        raise SourceError(
            f"{', '.join(sorted(shared))} is the name of an input and of an output",
            remedy="name the outputs otherwise: --output-names, output_names=",
        )
    signature = Signature(declared.inputs, outputs, declared.ranges)
    return Source(name, module, signature, example, samples)


def run_module(module: nn.Module, inputs: Mapping[str, Array]) -> tuple[list[str], list[Array]]:
    """Run a module once, on copies of the inputs.

    Returns:
        Names made from the structure of the result, and the outputs.

    Raises:
        TypeError: An output is not a tensor.
    """
    with torch.no_grad():
        result = module(*[torch.tensor(array) for array in inputs.values()])
    # copied: an output may be a buffer that the next call writes into
    arrays = [tensor.detach().cpu().numpy().copy() for tensor in leaves(result)]
    return _output_names(result, "output"), arrays


def _output_names(result: object, name: str) -> list[str]:
    """Readable names: ``output``; ``output_0``, ``output_1``; a dict's own keys."""
    if isinstance(result, Mapping):
        prefix = "" if name == "output" else f"{name}_"
        parts = [_output_names(value, f"{prefix}{key}") for key, value in result.items()]
    elif isinstance(result, tuple | list):
        parts = [_output_names(value, f"{name}_{index}") for index, value in enumerate(result)]
    else:
        return [name]
    return [part for inner in parts for part in inner]


def _in_order_of_forward(module: nn.Module, inputs: Sequence[TensorSpec]) -> Sequence[TensorSpec]:
    """Names that are forward's own say the order; names that are all new are taken in order."""
    takes = positional_parameters(module)
    by_name = {spec.name: spec for spec in inputs}
    known = [by_name[name] for name in takes if name in by_name]
    if not known:
        return inputs
    unknown = [name for name in by_name if name not in takes]
    if unknown:
        close = difflib.get_close_matches(unknown[0], takes, n=1)
        raise SourceError(
            f"forward({', '.join(takes)}) has no {unknown[0]!r}, though it has {known[0].name!r}",
            remedy=f"rename it to {close[0]!r}" if close else "use forward's names for all inputs",
        )
    if takes[: len(known)] != [spec.name for spec in known]:
        skipped = [name for name in takes if name not in by_name]
        raise SourceError(
            f"forward({', '.join(takes)}) is called by position; {skipped[0]!r} is left out",
            remedy="declare the inputs before the last one too, or wrap the module",
        )
    return known


def positional_parameters(module: nn.Module) -> list[str]:
    """Names of what forward takes by position."""
    return [
        parameter.name
        for parameter in inspect.signature(module.forward).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]


def unwrapped(module: nn.Module) -> nn.Module:
    """The user's own module inside DataParallel, DistributedDataParallel or torch.compile."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        else:
            return module


def _check_ranges(declared: Signature) -> None:
    for name in declared.dimensions:
        range_ = declared.range_of(name)
        if range_.min == range_.max:
            raise UsageError(
                f"dimension {name!r} is free, but its range {range_} holds one size",
                remedy=f"write the number {range_.min} in its place",
            )


def _check_real(declared: Signature, real: Sequence[Mapping[str, Array]]) -> None:
    check = InputCheck(Signature(declared.inputs, ()))
    for number, sample in enumerate(real):
        try:
            check(sample)
        except ValueError as e:
            raise SourceError(
                f"sample {number} does not fit the declared inputs: {getattr(e, 'problem', e)}",
                remedy=f"the inputs are {', '.join(map(str, declared.inputs))}",
            ) from e
        empty = [name for name, array in sample.items() if array.size == 0]
        if empty:
            raise SourceError(f"sample {number}: {empty[0]!r} is empty", remedy="leave it out")


def _measure_outputs(
    module: nn.Module,
    declared: Signature,
    values: Values,
    asked: Sequence[str] | None,
) -> tuple[TensorSpec, ...]:
    """Run the module at two sizes of every free dimension, and see which axes follow which."""
    usual, other = usual_sizes(declared), other_sizes(declared)
    names, first = _run_or_explain(module, inputs_at(declared, usual, values, 0), usual)
    _, again = _run_or_explain(module, inputs_at(declared, usual, values, 0), usual)
    _, second = _run_or_explain(module, inputs_at(declared, other, values, 0), other)
    _check_outputs(module, names, first, again, asked)
    return tuple(
        TensorSpec(name, str(a.dtype), _named_shape(name, a.shape, b.shape, usual, other))
        for name, a, b in zip(asked or names, first, second, strict=True)
    )


def _run_or_explain(
    module: nn.Module, inputs: Mapping[str, Array], sizes: Mapping[str, int]
) -> tuple[list[str], list[Array]]:
    try:
        return run_module(module, inputs)
    except Exception as e:  # the user's module may raise anything
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
        raise SourceError(
            f"{type(module).__name__} fails on {shapes}: {type(e).__name__}: {last_line(e)}",
            remedy=range_remedy(sizes),
        ) from e


def range_remedy(sizes: Mapping[str, int]) -> str:
    """What to do about a module that rejects sizes that were declared."""
    if not sizes:
        return "check the declared inputs: name, dtype and size of each"
    name = next(iter(sizes))
    return f"check the declared inputs; a range says which sizes are allowed: {name}:MIN..MAX"


def _check_outputs(
    module: nn.Module,
    names: Sequence[str],
    first: Sequence[Array],
    again: Sequence[Array],
    asked: Sequence[str] | None,
) -> None:
    if not first:
        raise SourceError("the module returns no tensor", remedy="return at least one")
    for a, b in zip(first, again, strict=True):
        if a.shape != b.shape or not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
            raise SourceError(
                f"{type(module).__name__} is not deterministic: two runs on one input differ",
                remedy="remove what is random, or keeps state, from forward",
            )
    if asked is not None and len(asked) != len(first):
        raise SourceError(
            f"{len(asked)} output names for {len(first)} outputs",
            remedy=f"the module returns {', '.join(names)}",
        )


def _named_shape(
    output: str,
    first: tuple[int, ...],
    second: tuple[int, ...],
    usual: Mapping[str, int],
    other: Mapping[str, int],
) -> tuple[int | str, ...]:
    """Name each axis by the dimension whose size it has both times."""
    if len(first) != len(second):
        raise SourceError(
            f"output {output!r} has {len(first)} axes for {usual}, {len(second)} for {other}",
            remedy="let forward return the same number of axes for every size",
        )
    return tuple(
        next(
            (name for name in usual if (usual[name], other[name]) == (a, b) and a != b),
            a if a == b else f"{output}_{axis}",
        )
        for axis, (a, b) in enumerate(zip(first, second, strict=True))
    )

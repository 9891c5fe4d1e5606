"""A source: a module with everything that is needed to compile and to prove it."""

import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from edgeport.deploy.diagnosis.places import Map, frames_of
from edgeport.runtimes import Range, Signature, SourceError, TensorSpec, UsageError
from edgeport.runtimes.inputs import Array, InputCheck
from edgeport.runtimes.structure import Node

from . import trees
from .arguments import misfit_of
from .flat import Call, Flat
from .modules import is_uninitialised, prepared
from .raised import raised
from .samples import Sample, Values, build_samples, guessed, inputs_at, other_sizes, usual_sizes


@dataclass(frozen=True, slots=True)
class Source:
    """What is compiled, and what it is proved with.

    Attributes:
        name: The model's name.
        flat: The module behind flat inputs and outputs; compilers get it in a process of their
            own, so that nothing they do reaches it.
        signature: Inputs as declared, outputs as measured.
        example: Inputs to compile with; every free dimension is 2 or more.
        samples: Inputs to prove with.
        notes: What was changed in the user's module, in sentences for them.
        real: The caller's samples as they were given.
        labels: By output: names of the classes along its last axis, where they are known.
    """

    name: str
    flat: Flat
    signature: Signature
    example: Mapping[str, Array]
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()
    real: tuple[Mapping[str, Array], ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def precision(self) -> str:
        """The dtype that the module computes in; ``integer`` if it knows no floats."""
        tensors = (*self.module.parameters(), *self.module.buffers())
        if torch.bfloat16 in (*self.flat.call.dtypes, *(tensor.dtype for tensor in tensors)):
            return "bfloat16"  # which its outputs, as numpy has them, don't show
        return self.signature.precision

    @property
    def module(self) -> nn.Module:
        """The user's module: a copy, in the mode that is exported."""
        return self.flat.module

    def example_tensors(self) -> tuple[torch.Tensor, ...]:
        """Fresh copies of the example, in the order of forward."""
        return tuple(torch.tensor(array) for array in self.example.values())


def make_source(
    name: str,
    module: nn.Module,
    call: Call,
    inputs: Sequence[TensorSpec],
    ranges: Mapping[str, Range],
    *,
    values: Values | None = None,
    output_names: Sequence[str] | None = None,
    keep_training_mode: bool = False,
) -> Source:
    """Check that a module runs as declared, and measure what comes out.

    Args:
        name: The model's name.
        module: Copied; it is left as it is.
        call: How forward is called.
        inputs: As the artefacts will declare them, in the order of ``call``.
        ranges: Sizes that the free dimensions may take.
        values: Where the values of samples come from; ``None`` to draw them.
        output_names: In the order of the result; ``None`` to make them.
        keep_training_mode: Export the module in the mode that it is in; ``False`` for eval mode.

    Raises:
        UsageError: A free dimension has a range of one size.
        SourceError: The inputs do not fit forward, a sample does not fit the inputs, the module
            fails on a size that was declared, or its outputs are not tensors.
    """
    values = values or Values()
    declared = Signature(tuple(inputs), (), dict(ranges))
    _check_ranges(declared)
    _check_real(declared, values.real)
    samples = build_samples(declared, values)
    example = inputs_at(declared, usual_sizes(declared), values, seed=0)
    module, notes = prepared(module, keep_training_mode=keep_training_mode)
    flat = Flat(module, call)
    if is_uninitialised(module):
        _run_or_explain(flat, example, usual_sizes(declared))
    outputs, structure = _measure_outputs(flat, declared, values, samples, output_names)
    signature = Signature(declared.inputs, outputs, declared.ranges, structure)
    notes = (*notes, *guessed(declared, values))
    return Source(name, flat, signature, example, samples, notes, tuple(values.real))


def run_module(flat: Flat, inputs: Mapping[str, Array]) -> list[Array]:
    """Run a module once, on copies of the inputs.

    Raises:
        SourceError: An output is not a tensor that numpy can hold.
    """
    return [_to_numpy(tensor) for tensor in trees.tensors(_call(flat, inputs))]


def _call(flat: Flat, inputs: Mapping[str, Array]) -> Any:
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        return flat.nested([torch.tensor(array) for array in inputs.values()])


def _to_numpy(tensor: torch.Tensor) -> Array:
    """A copy: an output may be a buffer that the next call writes into."""
    if tensor.is_complex():
        raise SourceError(
            f"an output is {str(tensor.dtype).removeprefix('torch.')}, which engines cannot pass",
            remedy="return torch.view_as_real(output), or its magnitude",
        )
    tensor = tensor.detach().cpu().to_dense()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    try:
        return tensor.numpy().copy()
    except TypeError as e:  # quantised, float8
        raise SourceError(
            f"an output is {tensor.dtype}, which numpy cannot hold",
            remedy="convert it in forward: output.float()",
        ) from e


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
        empty = [
            spec.name
            for spec in declared.inputs
            if 0 not in spec.shape and not sample[spec.name].size
        ]
        if empty:
            raise SourceError(f"sample {number}: {empty[0]!r} is empty", remedy="leave it out")


@dataclass(frozen=True, slots=True)
class _Result:
    tree: object
    names: list[str]
    arrays: list[Array]

    def structure(self, names: Sequence[str]) -> Node:
        return trees.structure(self.tree, iter(names))


def _measure_outputs(
    flat: Flat,
    declared: Signature,
    values: Values,
    samples: Sequence[Sample],
    asked: Sequence[str] | None,
) -> tuple[tuple[TensorSpec, ...], Node | None]:
    """Run the module at two sizes of every free dimension, and see which axes follow which.

    Two may be too near to one another (a little more sound has as many frames), and values may
    decide too, so that every sample has a say.
    """
    usual, other = usual_sizes(declared), other_sizes(declared)
    first = _run_or_explain(flat, inputs_at(declared, usual, values, 0), usual)
    with contextlib.redirect_stdout(io.StringIO()):  # what forward prints was seen once
        second = _run_or_explain(flat, inputs_at(declared, other, values, 0), other)
    _check_structure(flat.module, first, second)
    names = _output_names(first.names, [spec.name for spec in declared.inputs], asked)
    outputs = tuple(
        TensorSpec(name, str(a.dtype), _named_shape(name, a.shape, b.shape, usual, other))
        for name, a, b in zip(names, first.arrays, second.arrays, strict=True)
    )
    for sample in samples:
        sizes = sizes_of(declared, sample.inputs)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                result = _run_or_explain(flat, sample.inputs, sizes)
        except SourceError:
            if sample.kind == "edge":  # which a module may reject
                continue
            raise
        _check_structure(flat.module, first, result)
        outputs = tuple(
            replace(spec, shape=_shape_as_seen(spec, array.shape, usual, sizes))
            for spec, array in zip(outputs, result.arrays, strict=True)
        )
    return outputs, None if _is_flat(first.tree) else first.structure(names)


def sizes_of(declared: Signature, inputs: Mapping[str, Array]) -> dict[str, int]:
    """The size that each free dimension has in some inputs."""
    return {
        size: inputs[spec.name].shape[axis]
        for spec in declared.inputs
        for axis, size in enumerate(spec.shape)
        if isinstance(size, str)
    }


def _run_or_explain(flat: Flat, inputs: Mapping[str, Array], sizes: Mapping[str, int]) -> _Result:
    try:
        result = _call(flat, inputs)
    except (Exception, SystemExit) as e:  # the user's module may raise anything
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
        raise SourceError(
            f"{type(flat.module).__name__} fails on {shapes}: {_what(flat, e)}",
            remedy=_remedy(flat, e, sizes),
        ) from e
    _check_tensors(result)
    found = list(_named_outputs(result))
    names = _distinct([name for name, _ in found])
    arrays = [_to_numpy(tensor) for _, tensor in found]
    return _Result(result, names, arrays)


def _what(flat: Flat, error: BaseException) -> str:
    """What was raised, and on lines of their own the layer and the user's line that raised it."""
    if misfit := _misfit(flat, error):
        return misfit
    place = Map(flat).in_frames(frames_of(error))
    found = {"layer": place.layer, "source": place.line}
    places = "".join(f"\n  {name:<10}{value}" for name, value in found.items() if value)
    return f"{raised(error)}{places}"


def _remedy(flat: Flat, error: BaseException, sizes: Mapping[str, int]) -> str:
    if _misfit(flat, error):
        return (
            "declare an input for each parameter that has no default; parts of one go by their "
            "path: --input batch.ids=int64[8], {'batch': {'ids': tensor}}"
        )
    if re.search("cuda|nvidia", str(error), re.IGNORECASE):
        return (
            "the module is run and compiled on the CPU: make new tensors with device=x.device, in "
            "place of .cuda() or device='cuda'"
        )
    return range_remedy(sizes)


def _misfit(flat: Flat, error: BaseException) -> str | None:
    return misfit_of(flat.module, flat.call) if isinstance(error, TypeError) else None


def _is_flat(tree: object) -> bool:
    """Whether it is what a signature without a structure stands for."""
    parts = tree if type(tree) is tuple and len(tree) > 1 else (tree,)
    return all(isinstance(part, torch.Tensor) for part in parts)


def _named_outputs(result: object) -> Iterator[tuple[str, torch.Tensor]]:
    """``output``; ``output_0``, ``output_1``; a mapping's keys and an object's fields alone."""
    by_name = isinstance(result, Mapping) or trees.is_object(result)
    return trees.named_tensors(result, "" if by_name else "output")


def _check_tensors(result: object) -> None:
    strange = next(trees.others(result), None)
    if strange is not None:
        raise SourceError(
            f"an output is a {type(strange).__name__}, not a tensor",
            remedy="return tensors, or tuples, lists, dicts or dataclasses of them",
        )
    if next(trees.tensors(result), None) is None:
        raise SourceError("the module returns no tensor", remedy="return at least one")


def range_remedy(sizes: Mapping[str, int]) -> str:
    """What to do about a module that rejects sizes that were declared."""
    if not sizes:
        return "check the declared inputs: name, dtype and size of each"
    name = next(iter(sizes))
    return f"check the declared inputs; a range says which sizes are allowed: {name}:MIN..MAX"


def _check_structure(module: nn.Module, first: _Result, second: _Result) -> None:
    if first.structure(first.names) != second.structure(second.names):
        raise SourceError(
            f"what {type(module).__name__} returns changes with the sizes of its inputs, "
            "and not only in its tensors",
            remedy="return as many tensors for every size, and what changes as a tensor",
        )


def _output_names(
    found: Sequence[str], inputs: Sequence[str], asked: Sequence[str] | None
) -> list[str]:
    if asked is None:
        return [f"output_{name}" if name in inputs else name for name in found]
    if len(asked) != len(found):
        raise SourceError(
            f"{len(asked)} output names for {len(found)} outputs",
            remedy=f"the module returns {', '.join(found)}",
        )
    shared = sorted({*asked} & {*inputs})
    if shared:
        raise SourceError(
            f"{', '.join(shared)} is the name of an input and of an output",
            remedy="name the outputs otherwise: --output-names, output_names=",
        )
    return list(asked)


def _distinct(names: Sequence[str]) -> list[str]:
    """Number what is there twice: ``{"a_b": x, "a": {"b": y}}``."""
    return [
        f"{name}_{names[:index].count(name) + 1}" if name in names[:index] else name
        for index, name in enumerate(names)
    ]


def _shape_as_seen(
    spec: TensorSpec, seen: tuple[int, ...], usual: Mapping[str, int], sizes: Mapping[str, int]
) -> tuple[int | str, ...]:
    """Its shape, with a name of its own for each axis that turned out to follow nothing known."""
    _check_rank(spec.name, len(spec.shape), len(seen), usual, sizes)
    return tuple(
        size if found in (size, sizes.get(str(size))) else f"{spec.name}_{axis}"
        for axis, (size, found) in enumerate(zip(spec.shape, seen, strict=True))
    )


def _check_rank(
    output: str, rank: int, other: int, sizes: Mapping[str, int], others: Mapping[str, int]
) -> None:
    if rank != other:
        raise SourceError(
            f"output {output!r} has {rank} axes for {sizes}, {other} for {others}",
            remedy="let forward return the same number of axes for every size",
        )


def _named_shape(
    output: str,
    first: tuple[int, ...],
    second: tuple[int, ...],
    usual: Mapping[str, int],
    other: Mapping[str, int],
) -> tuple[int | str, ...]:
    """Name each axis by the dimension whose size it has both times."""
    _check_rank(output, len(first), len(second), usual, other)
    return tuple(
        next(
            (name for name in usual if (usual[name], other[name]) == (a, b) and a != b),
            a if a == b else f"{output}_{axis}",
        )
        for axis, (a, b) in enumerate(zip(first, second, strict=True))
    )

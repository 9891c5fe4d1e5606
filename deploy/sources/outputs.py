"""What comes out of a module: names, dtypes, and which axes follow which free dimension."""

import contextlib
import io
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from edgeport.deploy.kinds import kind_of
from edgeport.runtimes import Signature, SourceError, TensorSpec
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.sizes import size_at, spelled, sum_of
from edgeport.runtimes.structure import Node

from .drawing import Values
from .flat import Flat
from .rows_by_value import decided_by_values
from .running import Result, run_or_explain
from .samples import Sample, build_samples, inputs_at, other_sizes, sizes_of, usual_sizes
from .work import most_cells

Run: TypeAlias = tuple[Mapping[str, int], Sequence[tuple[int, ...]]]
"""The sizes of the free dimensions, and the shapes of what came out."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Samples and what came out.

    Attributes:
        most_cells: How large the product of all free sizes may be.
        is_finite: Whether all of it was, but for edge cases.
        notes: Sentences for the user on lengths that values decide and no sample has shown.
    """

    samples: tuple[Sample, ...]
    outputs: tuple[TensorSpec, ...]
    structure: Node | None
    most_cells: float
    is_finite: bool
    notes: tuple[str, ...]


def measure_outputs(
    flat: Flat,
    declared: Signature,
    values: Values,
    asked: Sequence[str] | None,
) -> Measured:
    """Run the module at two sizes of every free dimension, and see which axes follow which.

    Two may be too near to one another (a little more sound has as many frames), so that every
    sample has a say. Where values decide, an axis follows nothing.

    Args:
        flat: The module.
        declared: Its inputs.
        values: Where the values of samples come from.
        asked: Names of the outputs.

    Raises:
        SourceError: The module fails on a sample that is no edge case, or what it returns is not
            the same structure of tensors each time.
    """
    most = _most_cells(flat, declared, values)
    samples = build_samples(declared, values, most)
    usual, other = usual_sizes(declared), other_sizes(declared)
    first = run_or_explain(flat, inputs_at(declared, usual, values, 0), usual)
    with contextlib.redirect_stdout(io.StringIO()):  # what forward prints was seen once
        second = run_or_explain(flat, inputs_at(declared, other, values, 0), other)
    _check_structure(flat.module, first, second)
    names = _output_names(first.names, [spec.name for spec in declared.inputs], asked)
    free = decided_by_values(flat, inputs_at(declared, other, values, 0), second.arrays)
    runs = [(usual, _shapes(first)), (other, _shapes(second))]
    is_finite = _is_finite(first) and _is_finite(second)
    for sample in samples:
        sizes = sizes_of(declared, sample.inputs)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                result = run_or_explain(flat, sample.inputs, sizes)
        except SourceError:
            if sample.kind == "edge":  # which a module may reject
                continue
            raise
        _check_structure(flat.module, first, result)
        is_finite = is_finite and (sample.kind == "edge" or _is_finite(result))
        runs.append((sizes, _shapes(result)))
    specs = partial(_specs, names, first.arrays, sums=[*declared.sums])
    outputs = specs(runs)
    if any(map(_is_of_two, outputs)):
        mixed = (other | {name: size} for name, size in usual.items())
        outputs = specs([*runs, *_shapes_at(flat, declared, values, mixed)])
    structure = None if _is_flat(first.tree) else first.structure(names)
    notes = tuple(_unshown(outputs, free))
    outputs = tuple(map(_with_own_sizes, outputs, free))
    return Measured(samples, outputs, structure, most, is_finite, notes)


def _most_cells(flat: Flat, declared: Signature, values: Values) -> float:
    usual = usual_sizes(declared)
    return most_cells(flat, declared, inputs_at(declared, usual, values, 0), usual)


def _specs(
    names: Sequence[str], arrays: Sequence[Array], runs: Sequence[Run], sums: Sequence[str]
) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, str(array.dtype), _named_shape(name, place, runs, sums))
        for place, (name, array) in enumerate(zip(names, arrays, strict=True))
    )


def _is_of_two(spec: TensorSpec) -> bool:
    """Whether an axis follows two dimensions, which may be chance: as long as the longer of two."""
    found = (sum_of(size) for size in spec.shape if isinstance(size, str))
    return any(follows is not None and len(follows.factors) > 1 for follows in found)


def _shapes_at(
    flat: Flat, declared: Signature, values: Values, plans: Iterable[Mapping[str, int]]
) -> Iterator[Run]:
    for sizes in plans:
        with contextlib.redirect_stdout(io.StringIO()):
            result = run_or_explain(flat, inputs_at(declared, sizes, values, 0), sizes)
        yield sizes, _shapes(result)


def answers_numbers(flat: Flat, declared: Signature, values: Values) -> bool:
    """Whether a module answers every sample that is no edge case, and with finite numbers."""
    with contextlib.redirect_stdout(io.StringIO()):
        for sample in build_samples(declared, values, _most_cells(flat, declared, values)):
            if sample.kind == "edge":
                continue
            try:
                result = run_or_explain(flat, sample.inputs, {})
            except SourceError:
                return False
            if not _is_finite(result):
                return False
    return True


def _shapes(result: Result) -> list[tuple[int, ...]]:
    return [array.shape for array in result.arrays]


def _unshown(outputs: Sequence[TensorSpec], free: Sequence[Collection[int]]) -> Iterator[str]:
    for spec, axes in zip(outputs, free, strict=True):
        for axis in sorted(axes):
            if spec.shape[axis] != _own_size(spec, axis):
                yield (
                    f"{spec.name}: values decide how long its axis {axis} is, and no sample shows "
                    f"it: each has {spec.shape[axis]}; give samples that differ there"
                )


def _with_own_sizes(spec: TensorSpec, axes: Collection[int]) -> TensorSpec:
    shape = [_own_size(spec, n) if n in axes else size for n, size in enumerate(spec.shape)]
    return replace(spec, shape=tuple(shape))


def _own_size(spec: TensorSpec, axis: int) -> str:
    return f"{spec.name}_{axis}"


def _is_finite(result: Result) -> bool:
    return all(array.dtype.kind != "f" or np.isfinite(array).all() for array in result.arrays)


def _is_flat(tree: object) -> bool:
    """Whether it is what a signature without a structure stands for."""
    parts = tree if type(tree) is tuple and len(tree) > 1 else (tree,)
    return all(isinstance(part, torch.Tensor) for part in parts)


def _check_structure(module: nn.Module, first: Result, second: Result) -> None:
    if first.structure(first.names) != second.structure(second.names):
        raise SourceError(
            f"what {kind_of(module)} returns changes with the sizes of its inputs, "
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
    place: int,
    runs: Sequence[Run],
    sums: Sequence[str],
) -> tuple[int | str, ...]:
    """Name each axis by the dimension, or a sum of some, whose size it had in every run."""
    usual = runs[0][0]
    shapes = [each[place] for _, each in runs]
    for (sizes, _), shape in zip(runs, shapes, strict=True):
        _check_rank(output, len(shapes[0]), len(shape), usual, sizes)
    names = [*usual, *sums, *map("+".join, itertools.combinations(usual, 2))]
    named: list[int | str] = []
    for axis, seen in enumerate(zip(*shapes, strict=True)):
        near = [spelled(f"{name}{seen[0] - size_at(name, usual):+d}") for name in names]
        follows = (
            name
            for name in names + near
            if all(
                size_at(name, sizes) == size for (sizes, _), size in zip(runs, seen, strict=True)
            )
        )
        named.append(seen[0] if len({*seen}) == 1 else next(follows, f"{output}_{axis}"))
    return tuple(named)

"""Samples: the inputs that parity is proved on.

Every free dimension is probed at several sizes. The caller's own values are best; without
them, values are drawn, like an example's if there is one (``drawing``). Edge cases are added:
zeros, ones, large and denormal values, integers at the ends of what was seen.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edgeport.runtimes import Range, Signature, TensorSpec, UsageError
from edgeport.runtimes.bundles.manifest import Kind
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.sizes import names_in, size_at
from edgeport.runtimes.text import CHARACTERS, ended, is_text

from .drawing import Values, cut_or_repeated, draw, measured, told
from .edge_cases import edge_cases

PROBED_SIZES: Final = (1, 2, 7, 32)
"""One row, the smallest batch, a prime, and a batch that fills vector registers."""

_PROBED_STEPS: Final = 6
"""Above the smallest size, where only multiples of a step are allowed: the next and this many."""

_PROBED_ABOVE: Final = 32
"""Elements above the smallest size: of a larger step only the next multiple is probed."""

LARGEST_SAMPLE: Final = 2**27
"""Elements of one sample. More is refused: what is declared is proved, and a bundle carries it."""

_LARGEST_OWN: Final = 2**25
"""Elements of a real sample that is tried as large as it is: a photo of 11 megapixels."""

_UNSIZED_SAMPLES: Final = 3
"""Samples drawn for a signature without free dimensions."""

_SMALLEST_SAMPLES: Final = 4
"""Drawn at the smallest sizes, where a compiler takes a 1 for more than chance: forward may ask
for values first."""

_SMALLEST_REAL: Final = 8
"""Real samples of which each is tried at the smallest sizes."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One named set of inputs."""

    name: str
    kind: Kind
    inputs: Mapping[str, Array]


def build_samples(
    declared: Signature, values: Values, most_cells: float = math.inf
) -> tuple[Sample, ...]:
    """Make the samples of a signature: every size to probe, then the edge cases.

    Args:
        declared: Inputs and ranges; outputs are not looked at.
        values: Where values come from.
        most_cells: Where the product of all free sizes would be larger, each is tried apart.
    """
    plans = _size_plans(declared, sizes_of(declared, values.like), most_cells)
    count = max(len(plans), len(values.real), 1 if declared.dimensions else _UNSIZED_SAMPLES)
    numbered = [(plans[number % len(plans)], number) for number in range(count)]
    given = (*_own_sizes(declared, values), *_sizes_of_example(declared, values))
    own = [(sizes, number) for sizes, number in given if sizes not in plans]
    small = [each for each in _smallest(declared, values) if each not in numbered]
    asked = (*numbered, *own, *small)
    samples = _named_apart(sample_at(declared, sizes, values, number) for sizes, number in asked)
    usual = inputs_at(declared, usual_sizes(declared), values, seed=count)
    cases = edge_cases(declared, usual, values)
    return (*samples, *(Sample(name, "edge", inputs) for name, inputs in cases))


def usual_sizes(declared: Signature) -> dict[str, int]:
    """A size for each free dimension to compile with: at least 2 and, if possible, all different.

    A compiler may take 0 and 1 as special, and two equal sizes as one dimension. What a module
    divides by the step is 2 at least, too.
    """
    return _apart(declared, {})


def roomy_sizes(declared: Signature) -> dict[str, int]:
    """The same, and twice the smallest at least: what is left after convolutions is then no 1.

    A compiler that looks at one set of sizes would take that 1 for more than chance. Inputs that
    would be large are left at their usual sizes.
    """
    least = {name: 2 * declared.range_of(name).min for name in declared.dimensions}
    sizes = _apart(declared, least)
    return sizes if elements_of(declared, sizes) <= _LARGEST_OWN else usual_sizes(declared)


def _apart(declared: Signature, least: Mapping[str, int]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name in declared.dimensions:
        range_ = declared.range_of(name)
        size = range_.opt or range_.nearest(max(2 * range_.step, range_.min))
        size = max(size, range_.nearest(least.get(name, 0)))
        while not _is_apart(declared, {**sizes, name: size}) and size + range_.step in range_:
            size += range_.step
        sizes[name] = size
    return sizes


def _is_apart(declared: Signature, sizes: Mapping[str, int]) -> bool:
    """Whether no two dimensions have one size, nor one that follows them and another."""
    sums = declared.sums.values()
    known = [follows.at(sizes) for follows in sums if follows.factors.keys() <= sizes.keys()]
    return len({*sizes.values(), *known}) == len(sizes) + len(known)


def other_sizes(declared: Signature) -> dict[str, int]:
    """A second size for each free dimension, if possible unlike the usual one and all others.

    About seven more, or where that is no more than one step: one step less, as there may be three
    such dimensions.
    """
    sizes: dict[str, int] = {}
    for name, size in usual_sizes(declared).items():
        range_ = declared.range_of(name)
        more = [math.ceil(elements / range_.step) for elements in (7, 5, 3, 1)]
        steps = (*more, -1) if more[0] > 1 else (-1, 1, 2)
        others = [other for n in steps if (other := size + n * range_.step) in range_]
        apart = [other for other in others if _is_apart(declared, {**sizes, name: other})]
        sizes[name] = (*apart, *others, size)[0]
    return sizes


def sizes_of(declared: Signature, inputs: Mapping[str, Array]) -> dict[str, int]:
    """The size that each free dimension has in some inputs."""
    free = declared.dimensions
    return {
        str(size): inputs[spec.name].shape[axis]
        for spec in declared.inputs
        if spec.name in inputs
        for axis, size in enumerate(spec.shape)
        if size in free
    }


def guessed(declared: Signature, values: Values) -> Iterator[str]:
    """Sentences for the user on inputs that nothing was known of."""
    if not values.real:
        yield from told(declared, values)


def untried(declared: Signature, samples: Sequence[Sample]) -> Iterator[str]:
    """A sentence for the user on the sizes beyond those that were tried."""
    sizes = [sizes_of(declared, sample.inputs) for sample in samples]
    open_ = [
        name
        for name in declared.dimensions
        if declared.range_of(name).max is None and name not in (rows_of(declared), CHARACTERS)
    ]
    tried = ", ".join(f"{name} up to {max(each[name] for each in sizes):,}" for name in open_)
    if open_:
        yield (
            f"tried {tried}: what is larger is not proved; declare the largest there is, as in "
            f"{open_[0]}<=512"
        )


def sample_at(declared: Signature, sizes: Mapping[str, int], values: Values, number: int) -> Sample:
    """One sample of the given sizes.

    Raises:
        UsageError: It would be larger than ``LARGEST_SAMPLE``.
    """
    kind: Kind = "real" if values.real else "random"
    return Sample(_label(kind, sizes, number), kind, inputs_at(declared, sizes, values, number))


def inputs_at(
    declared: Signature, sizes: Mapping[str, int], values: Values, seed: int
) -> dict[str, Array]:
    """One set of inputs of the given sizes: real values where there are some, else drawn.

    Raises:
        UsageError: They would be larger than ``LARGEST_SAMPLE``.
    """
    _check_size(declared, sizes)
    if values.real:
        chosen = values.real[seed % len(values.real)]
        found = [
            _valid(declared, spec, sizes, values, _fit(chosen[spec.name], spec, sizes, seed))
            for spec in declared.inputs
        ]
    else:
        generator = np.random.default_rng(seed)
        found = [draw(declared, spec, sizes, values, generator) for spec in declared.inputs]
    return {
        spec.name: ended(array) if is_text(spec) else array
        for spec, array in zip(declared.inputs, found, strict=True)
    }


def _check_size(declared: Signature, sizes: Mapping[str, int]) -> None:
    for spec in declared.inputs:
        shape = _shape(spec, sizes)
        if math.prod(shape) > LARGEST_SAMPLE:
            raise UsageError(
                f"{spec} would be proved at {shape}, which is {math.prod(shape):,} elements",
                remedy=f"declare smaller sizes: at most {LARGEST_SAMPLE:,} elements in one sample",
            )


def _size_plans(
    declared: Signature, example: Mapping[str, int], most_cells: float = math.inf
) -> list[dict[str, int]]:
    """Sizes to probe, all dimensions at once, each at a different place of its own list.

    Where that is too much, each beside the smallest of the others. Then all at their smallest:
    what is made of them may be of one element there alone.
    """
    probes = {
        name: _probes(declared.range_of(name), example.get(name)) for name in declared.dimensions
    }
    plans = [
        {
            name: sizes[(step + offset) % len(sizes)]
            for offset, (name, sizes) in enumerate(probes.items())
        }
        for step in range(max(map(len, probes.values()), default=0))
    ]
    smallest = {name: sizes[0] for name, sizes in probes.items()}
    found: list[dict[str, int]] = []
    for plan in plans:
        apart = [{**smallest, name: size} for name, size in plan.items()]
        found += apart if cells(plan) > most_cells else [plan]
    return [plan for n, plan in enumerate([*found, smallest]) if plan not in found[:n]]


def _own_sizes(declared: Signature, values: Values) -> Iterator[tuple[dict[str, int], int]]:
    """The smallest and the largest that real samples have, of one row, and which sample that is."""
    found: dict[int, tuple[dict[str, int], int]] = {}
    for number, sample in enumerate(values.real):
        if sizes := _of_one_row(declared, sample):
            found.setdefault(elements_of(declared, sizes), (sizes, number))
    for elements in dict.fromkeys((min(found), max(found)) if found else ()):
        yield found[elements]


def _smallest(declared: Signature, values: Values) -> Iterator[tuple[dict[str, int], int]]:
    """The smallest sizes with several values, by the numbers of their samples."""
    ranges = {name: declared.range_of(name) for name in declared.dimensions}
    sizes = {name: range_.nearest(max(range_.min, 1)) for name, range_ in ranges.items()}
    count = min(len(values.real), _SMALLEST_REAL) if values.real else _SMALLEST_SAMPLES
    yield from ((sizes, number) for number in range(count if sizes else 0))


def _named_apart(samples: Iterable[Sample]) -> list[Sample]:
    """Count those of one name: ``real, batch=1``, ``real, batch=1 (2)``."""
    counts: dict[str, int] = {}
    found = []
    for sample in samples:
        count = counts[sample.name] = counts.get(sample.name, 0) + 1
        found.append(replace(sample, name=f"{sample.name} ({count})") if count > 1 else sample)
    return found


def _sizes_of_example(declared: Signature, values: Values) -> Iterator[tuple[dict[str, int], int]]:
    """All of them together, as of a square image, for which forward may have a way of its own."""
    beside = [name for name in declared.dimensions if name != rows_of(declared)]
    is_one = len(beside) < 2 or values.real
    if not is_one and (sizes := _of_one_row(declared, values.like)):
        yield sizes, 0


def _of_one_row(declared: Signature, sample: Mapping[str, Array]) -> dict[str, int] | None:
    """The sizes of a sample, if they are allowed, and the sample is not too large."""
    sizes = sizes_of(declared, sample)
    if (rows := rows_of(declared)) is not None:
        range_ = declared.range_of(rows)
        sizes[rows] = range_.nearest(range_.step)
    are_allowed = sizes.keys() == {*declared.dimensions} and all(
        n in declared.range_of(name) for name, n in sizes.items()
    )
    return sizes if are_allowed and elements_of(declared, sizes) <= _LARGEST_OWN else None


def elements_of(declared: Signature, sizes: Mapping[str, int]) -> int:
    """Of all inputs at these sizes."""
    return sum(math.prod(_shape(spec, sizes)) for spec in declared.inputs)


def cells(sizes: Mapping[str, int]) -> int:
    """The product of the sizes of all free dimensions; one that is 0 leaves the work of others."""
    return math.prod(max(size, 1) for size in sizes.values())


def _shape(spec: TensorSpec, sizes: Mapping[str, int]) -> list[int]:
    return [size_at(size, sizes) for size in spec.shape]


def rows_of(declared: Signature) -> str | None:
    """The dimension that is first in every input, and nowhere else: more is more of the same."""
    for name in declared.dimensions:
        if all(
            spec.shape[:1] == (name,) and name not in names_in(spec.shape[1:])
            for spec in declared.inputs
        ):
            return name
    return None


def _probes(range_: Range, example: int | None) -> list[int]:
    asked = [*PROBED_SIZES, range_.min, range_.max, range_.opt, example]
    if range_.step > 1:
        most = max(1, min(_PROBED_STEPS, _PROBED_ABOVE // range_.step))
        asked += (range_.min + steps * range_.step for steps in (1, most))
    return sorted({size for size in asked if size is not None and size in range_})


def _fit(array: Array, spec: TensorSpec, sizes: Mapping[str, int], seed: int) -> Array:
    """Cut or repeat the free axes to ``sizes``, from another row on for each seed."""
    asked = {
        axis: size_at(size, sizes) for axis, size in enumerate(spec.shape) if isinstance(size, str)
    }
    fitted = cut_or_repeated(array, asked, seed * max(PROBED_SIZES))
    return np.ascontiguousarray(fitted).reshape(fitted.shape)


def _valid(
    declared: Signature,
    spec: TensorSpec,
    sizes: Mapping[str, int],
    values: Values,
    array: Array,
) -> Array:
    """Real integers that say places of an axis, inside of what is left of it.

    Indices are taken modulo its length, as edges of a smaller graph; lengths are cut, and stay in
    falling order if they were; bags begin at 0 and rise.
    """
    table, axis = values.tables.get(spec.name), measured(declared, spec)
    if isinstance(table, str) and spec.name in values.offsets:
        bags: Array = np.sort(np.minimum(array, np.int64(size_at(table, sizes)))).astype(
            array.dtype
        )
        bags[:1] = 0
        return bags
    if isinstance(table, str):
        size = size_at(table, sizes)
        inside: Array = np.where(array < size, array, array % np.int64(size)).astype(array.dtype)
        return inside
    if array.dtype.kind not in "iu" or not isinstance(axis, str):
        return array
    real = [
        (sample[spec.name], size_at(axis, sizes_of(declared, sample))) for sample in values.real
    ]
    if any((found > size).any() for found, size in real):
        return array
    falling = all((found[:-1] >= found[1:]).all() for found, _ in real)
    cut = np.minimum(array, np.int64(size_at(axis, sizes))).astype(array.dtype)
    return np.sort(cut)[::-1].copy() if falling else cut


def _label(kind: Kind, sizes: Mapping[str, int], number: int) -> str:
    if not sizes:
        return f"{kind} {number}"
    return f"{kind}, {', '.join(f'{name}={size}' for name, size in sizes.items())}"

"""Which dimensions are free: seen in several calls, or found by running the module.

An axis that is taken for free wrongly fails an export; one that is taken for fixed wrongly is
declared by hand. So an axis counts as free only on evidence, and two axes get names of their own
only if the module was seen to take different sizes for them.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np

from edgeport.runtimes import Range, SourceError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.sizes import Sum

from .raised import raised
from .samples import PROBED_SIZES

MOST_RUNS: Final = 40
"""Runs of the eager module to probe one example: images and text take 10 to 31."""

MOST_CANDIDATES: Final = 12
"""Sets of axes that are tried for one axis that cannot vary alone."""

Axis: TypeAlias = tuple[str, int]
"""The name of an input, and the number of one of its axes."""

Group: TypeAlias = frozenset[Axis]
"""Axes whose sizes are always equal: one dimension."""

Run: TypeAlias = Callable[[Mapping[str, Array]], Sequence[tuple[int, ...]]]
"""Runs the eager module, and returns the shapes of its outputs; may raise anything."""

Dimensions: TypeAlias = tuple[dict[str, dict[int, str]], dict[str, Range]]
"""For each input the names of its free axes, and the sizes that each name may take."""

Follows: TypeAlias = tuple[tuple[Group, ...], int]
"""The groups whose sizes add up to that of another, and what is added to them."""


def observed_dimensions(calls: Sequence[Mapping[str, Array]], run: Run | None = None) -> Dimensions:
    """Name the axes whose sizes varied between calls; those that varied together share a name.

    Args:
        calls: The inputs of each; one call alone shows no free axis.
        run: To see whether the module runs at size 1 too; without it, a range starts at the
            smallest size that was seen. Where it rejects one more than that, the range has a step,
            which divides all sizes that were seen. No range has an end: what was seen says nothing
            of it. An axis that cannot vary alone, and was always as long as one or two others
            and some, follows them.

    Raises:
        SourceError: There are no calls, two differ in more than sizes, or ``run`` fails on the
            first.
    """
    if not calls:
        raise SourceError("no calls were given", remedy="capture at least one call")
    for number, call in enumerate(calls):
        _check_alike(calls[0], call, number)
    seen: dict[tuple[int, ...], list[Axis]] = {}
    for axis in _axes(calls[0]):
        seen.setdefault(tuple(_size(call, axis) for call in calls), []).append(axis)
    varied = {frozenset(axes): sizes for sizes, axes in seen.items() if len(set(sizes)) > 1}
    groups = {group: min(sizes) for group, sizes in varied.items()}
    steps = dict.fromkeys(groups, 1)
    sums: dict[Group, Follows] = {}
    if run is not None and groups:
        eager = _Eager(run, calls[0])
        sums = eager.sums = _sums(eager, varied)
        groups = {group: low for group, low in groups.items() if group not in sums}
        steps = {group: _step(eager, group, varied[group]) for group in groups}
        _lower(eager, groups, steps)
    ranges = {group: Range(low, step=steps[group]) for group, low in groups.items()}
    return _named(calls[0], ranges, sums)


def _sums(eager: "_Eager", varied: Mapping[Group, Sequence[int]]) -> dict[Group, Follows]:
    """The groups that cannot vary alone, and were one or two others and a constant each time.

    Larger ones first, so that a mask follows the past and the present, and not these the mask.
    """
    sums: dict[Group, Follows] = {}
    for group, sizes in sorted(varied.items(), key=lambda each: -max(each[1])):
        others = [other for other in varied if other != group and other not in sums]
        if not others or eager.takes(dict.fromkeys(group, _size(eager.example, min(group)) + 1)):
            continue
        for parts in itertools.chain(*(itertools.combinations(others, n) for n in (1, 2))):
            totals = map(sum, zip(*(varied[part] for part in parts), strict=True))
            rest = {size - total for size, total in zip(sizes, totals, strict=True)}
            if len(rest) == 1 and all(_grows_with(eager, group, part) for part in parts):
                sums[group] = parts, rest.pop()
                break
    return sums


def _grows_with(eager: "_Eager", group: Group, part: Group) -> bool:
    """Whether the module takes one more of both."""
    both = (group, part)
    return eager.takes({axis: _size(eager.example, axis) + 1 for each in both for axis in each})


def probed_dimensions(run: Run, example: Mapping[str, Array]) -> Dimensions:
    """Find the free axes by running the module on its example, cut or repeated to other sizes.

    An axis is free if the module takes two larger sizes, while the dimensions found so far have
    two different larger sizes each: that rules out features, divisibility, and an axis that is
    folded into another. Axes of one size that cannot vary alone are tried together. A range
    starts at the smallest size that ran. It ends only if the module fails at twice the size of
    the example (at least the largest size that will be proved); such an axis must run at half the
    size too, or it is fixed: before a flattened layer, a pooling rounds a few pixels away.

    Args:
        run: At most ``MOST_RUNS`` times; what was not seen to run is not free.
        example: One set of inputs.

    Raises:
        SourceError: ``run`` fails on the example.
    """
    eager = _Eager(run, example)
    groups: list[Group] = []
    for axis in sorted(_axes(example), key=lambda axis: axis[1]):  # a batch is axis 0
        if _size(example, axis) and not any(axis in group for group in groups):
            groups = _with_axis(eager, axis, groups)
    groups = [group for group in groups if _ranges_widely(eager, group)]
    largest = {group: _largest(eager, group) for group in groups}
    ranges: dict[Group, Range] = {}
    others: dict[Axis, int] = {}
    for group in groups:
        smallest = _smallest(eager, group, others)
        others |= dict.fromkeys(group, smallest)  # in the end, all of them ran at once
        ranges[group] = Range(smallest, largest[group])
    return _named(example, ranges)


class _Eager:
    """The eager module, asked which sizes it takes; no question is asked twice."""

    def __init__(self, run: Run, example: Mapping[str, Array]) -> None:
        self.example = example
        self.sums: Mapping[Group, Follows] = {}
        self._run = run
        try:
            self._ranks = self._ranks_at({})
        except Exception as e:  # the user's module may raise anything
            raise SourceError(
                f"the module fails on the example: {raised(e)}",
                remedy="give an example that it runs on",
            ) from e
        self._answers: dict[frozenset[tuple[Axis, int]], bool] = {frozenset(): True}

    def takes(self, sizes: Mapping[Axis, int]) -> bool:
        """Whether it runs with some axes at other sizes, and its outputs keep their ranks."""
        sizes = self._with_sums(sizes)
        question = frozenset(
            (axis, size) for axis, size in sizes.items() if size != _size(self.example, axis)
        )
        if question not in self._answers:
            if len(self._answers) >= MOST_RUNS:
                return False
            try:
                self._answers[question] = self._ranks_at(dict(question)) == self._ranks
            except Exception:  # that is a no
                self._answers[question] = False
        return self._answers[question]

    def _with_sums(self, sizes: Mapping[Axis, int]) -> dict[Axis, int]:
        """The same, and the axes that follow them."""
        found = dict(sizes)
        for group, (parts, constant) in self.sums.items():
            each = [min(part) for part in parts]
            size = constant + sum(sizes.get(axis, _size(self.example, axis)) for axis in each)
            found |= dict.fromkeys(group, size)
        return found

    def _ranks_at(self, sizes: Mapping[Axis, int]) -> list[int]:
        return [len(shape) for shape in self._run(_resized(self.example, sizes))]


def _resized(example: Mapping[str, Array], sizes: Mapping[Axis, int]) -> dict[str, Array]:
    """Copies, cut or repeated along some axes: values stay those of the example."""
    arrays = {name: array.copy() for name, array in example.items()}
    for (name, axis), size in sizes.items():
        rows = np.arange(size) % arrays[name].shape[axis]
        arrays[name] = arrays[name].take(rows, axis)
    return arrays


def _with_axis(eager: _Eager, axis: Axis, groups: list[Group]) -> list[Group]:
    """The groups, and the axis in one of its own, in one of them, or in none."""
    size = _size(eager.example, axis)
    known = frozenset[Axis]().union(*groups)
    mates = [
        mate
        for mate in _axes(eager.example)
        if mate != axis and mate not in known and _size(eager.example, mate) == size
    ]
    equal = [group for group in groups if _size(eager.example, min(group)) == size]
    for candidate in itertools.islice(_candidates(axis, mates, equal), MOST_CANDIDATES):
        others = [group for group in groups if not group & candidate]
        if _varies(eager, candidate, others):
            return [*others, _minimal(eager, candidate, mates, others)]
    return groups


def _candidates(axis: Axis, mates: Sequence[Axis], equal: Sequence[Group]) -> Iterator[Group]:
    """Sets of axes that may vary together with one axis, the likely ones first.

    Alone; with a group that is known, for two inputs of one row each may be stretched to each
    other's size; with the same axis of all other inputs; with any others.
    """
    alone = frozenset({axis})
    yield alone
    yield from (group | alone for group in equal)
    for number in sorted({mate[1] for mate in mates}, key=lambda number: number != axis[1]):
        yield alone.union(mate for mate in mates if mate[1] == number and mate[0] != axis[0])
    for count in range(1, len(mates) + 1):
        for some in itertools.combinations(mates, count):
            yield alone.union(some)


def _varies(eager: _Eager, group: Group, others: Sequence[Group]) -> bool:
    """Whether it takes two larger sizes, each while the other groups have their other one."""
    for turn in (0, 1):
        sizes = dict.fromkeys(group, _two_sizes(eager.example, group)[turn])
        for other in others:
            sizes |= dict.fromkeys(other, _two_sizes(eager.example, other)[1 - turn])
        if not eager.takes(sizes):
            return False
    return True


def _two_sizes(example: Mapping[str, Array], group: Group) -> tuple[int, int]:
    """The next size and a larger prime: no factor divides both, nor a multiple of the example's."""
    size = _size(example, min(group)) + 1
    return size, next(prime for prime in itertools.count(size + 1) if _is_prime(prime))


def _is_prime(number: int) -> bool:
    return all(number % factor for factor in range(2, math.isqrt(number) + 1))


def _minimal(eager: _Eager, group: Group, mates: Sequence[Axis], others: Sequence[Group]) -> Group:
    """Drop the axes that only happen to have the same size."""
    for mate in mates:
        if mate in group and len(group) > 2 and _varies(eager, group - {mate}, others):
            group -= {mate}
    return group


def _ranges_widely(eager: _Eager, group: Group) -> bool:
    """Whether it takes about twice the size, or half: a pooling rounds smaller changes away."""
    half = max(1, _size(eager.example, min(group)) // 2)
    return any(eager.takes(dict.fromkeys(group, size)) for size in (_twice(eager, group), half))


def _twice(eager: _Eager, group: Group) -> int:
    """Twice the size, and at least what will be proved."""
    return max(2 * _size(eager.example, min(group)) + 1, *PROBED_SIZES)


def _largest(eager: _Eager, group: Group) -> int | None:
    """No limit if twice the size runs; else the last size that does."""
    fails = _twice(eager, group)
    if eager.takes(dict.fromkeys(group, fails)):
        return None
    _, runs = _two_sizes(eager.example, group)
    return _border(eager, group, {}, runs, fails)


def _smallest(eager: _Eager, group: Group, others: Mapping[Axis, int]) -> int:
    """Doubling from 1 until it runs, then between the last two."""
    size = _size(eager.example, min(group))
    fails, runs = 0, 1
    while runs < size and not eager.takes({**others, **dict.fromkeys(group, runs)}):
        fails, runs = runs, 2 * runs
    return _border(eager, group, others, min(runs, size), fails)


def _border(eager: _Eager, group: Group, others: Mapping[Axis, int], runs: int, fails: int) -> int:
    """The last size that runs, between one that does and one that does not, by halving."""
    while abs(runs - fails) > 1:
        middle = (runs + fails) // 2
        if eager.takes({**others, **dict.fromkeys(group, middle)}):
            runs = middle
        else:
            fails = middle
    return runs


def _step(eager: _Eager, group: Group, sizes: Sequence[int]) -> int:
    """What all sizes are multiples of, if it takes the smallest and not the next; else 1."""
    step, smallest = math.gcd(*sizes), min(sizes)
    if step == 1 or eager.takes(dict.fromkeys(group, smallest + 1)):
        return 1
    return step if eager.takes(dict.fromkeys(group, smallest)) else 1


def _lower(eager: _Eager, groups: dict[Group, int], steps: Mapping[Group, int]) -> None:
    """Let the dimensions start at one step that run there, in place, all others at their least."""
    least = {axis: size for group, size in groups.items() for axis in group}
    for group, smallest in groups.items():
        one = dict.fromkeys(group, steps[group])
        if smallest > steps[group] and eager.takes({**least, **one}):
            groups[group] = steps[group]
            least |= one


def _check_alike(first: Mapping[str, Array], call: Mapping[str, Array], number: int) -> None:
    for name in (*first, *call):
        if name not in call or name not in first:
            has, lacks = ("calls[0]", f"calls[{number}]")[:: 1 if name in first else -1]
            raise SourceError(
                f"{has} has {name!r}, which {lacks} has not",
                remedy="capture calls that pass the same arguments: capture(module, only=...) "
                "says which",
            )
        a, b = first[name], call[name]
        if (a.dtype, a.ndim) != (b.dtype, b.ndim):
            raise SourceError(
                f"{name!r} is {a.dtype}{list(a.shape)} in calls[0], "
                f"{b.dtype}{list(b.shape)} in calls[{number}]",
                remedy="capture calls that pass it with one dtype and one number of axes",
            )


def _named(
    example: Mapping[str, Array],
    ranges: Mapping[Group, Range],
    sums: Mapping[Group, Follows] = MappingProxyType({}),
) -> Dimensions:
    """``batch`` for the first axis 0 that is free; ``input_axis`` for any other dimension."""
    free = [axis for axis in _axes(example) if any(axis in group for group in ranges)]
    batch = next((axis for axis in free if axis[1] == 0), None)
    names: dict[Axis, str] = {}
    named_ranges: dict[str, Range] = {}
    dimensions: dict[str, dict[int, str]] = {}
    for axis in free:
        if axis not in names:
            group = next(group for group in ranges if axis in group)
            name = "batch" if batch in group else _identifier(axis, named_ranges)
            named_ranges[name] = ranges[group]
            names |= dict.fromkeys(group, name)
        dimensions.setdefault(axis[0], {})[axis[1]] = names[axis]
    for group, (parts, constant) in sums.items():
        written = str(Sum({names[min(part)]: 1 for part in parts}, constant))
        for name, axis_number in group:
            dimensions.setdefault(name, {})[axis_number] = written
    return dimensions, named_ranges


def _identifier(axis: Axis, taken: Mapping[str, Range]) -> str:
    """A name that torch.export takes for a dimension."""
    name = re.sub(r"\W", "_", f"{axis[0]}_{axis[1]}", flags=re.ASCII)
    if name[0].isdigit():
        name = f"_{name}"
    while name in taken:
        name += "_"
    return name


def _axes(example: Mapping[str, Array]) -> list[Axis]:
    return [(name, axis) for name, array in example.items() for axis in range(array.ndim)]


def _size(example: Mapping[str, Array], axis: Axis) -> int:
    name, number = axis
    shape: tuple[int, ...] = example[name].shape
    return shape[number]

"""Where two runs part: the first value of the module that the artefact ought to have and has not.

A value that agrees vouches for all that led to it: an error does not vanish on its way. What is
left on both sides is what nothing vouches for, and where that begins, from values that are right,
the artefact went wrong. So a value without a counterpart (an exporter fuses, splits, folds) is no
alarm, because a later one vouches for it; and an error that only came from before is none either.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edgeport.runtimes.inputs import Array

from .matching import Match, telling
from .trace import Trace, Value

_FAR: Final = 100
"""Values of the module after the first wrong one, among which the counterpart is sought."""

_NEARLY: Final = 0.1
"""Relative distance below which two values of one place are meant to be one."""

_ALIKE: Final = 0.5
"""A counterpart that is told by likeness alone has at least this."""

_NEARNESS: Final = 1e-2
"""How much less alike a value may be that comes one earlier."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first values that nothing vouches for.

    Attributes:
        module: In the module's trace.
        artefact: In the artefact's trace; ``None`` if it has nothing there.
        counterpart: The value of the module that ``artefact`` stands for: ``module``, or a later
            one where an exporter fused several operators into one.
        paths: Of the module to blame, and of those whose work is done in the same operator.
    """

    module: int
    artefact: int | None
    counterpart: int
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sides:
    """Both runs, and what agrees.

    Attributes:
        right_module, right_artefact: What is vouched for, by number.
    """

    module: Trace
    artefact: Trace
    match: Match
    right_module: Sequence[bool]
    right_artefact: Sequence[bool]


def compare_sides(module: Trace, artefact: Trace, match: Match) -> Sides:
    """Find on both sides what is vouched for."""
    return Sides(
        module,
        artefact,
        match,
        _vouched(module, [bool(found) for found in match.of_module]),
        _vouched(artefact, [bool(found) for found in match.of_artefact]),
    )


def _vouched(trace: Trace, agrees: Sequence[bool]) -> list[bool]:
    found = [not value.operator or agrees[value.number] for value in trace.values]
    vouches = [agrees[v.number] and telling(v) for v in trace.values]
    for value in reversed(trace.values):  # sources come before what is made of them
        if vouches[value.number]:
            for source in value.sources:
                found[source] = vouches[source] = True
    for value in trace.values:  # a weight that is only turned round is still a weight
        if not value.varies and value.view and all(found[s] for s in value.sources):
            found[value.number] = True
    return found


def find_divergence(sides: Sides, expected: Sequence[tuple[int, int]]) -> Divergence:
    """Find where the two runs part.

    Args:
        sides: The runs.
        expected: Outputs that differ: (module, artefact).
    """
    first, second = _first_pair(sides, expected)
    hidden = _hidden(sides, first, second)
    if hidden is not None:
        sides = hidden
        first, second = _first_pair(sides, expected)
    chain = _chain(sides, first)
    last = first if second is None else _counterpart(sides, chain, sides.artefact.values[second])
    covered = chain[: chain.index(last) + 1]
    other = None if second is None else sides.artefact.values[second]
    paths = _paths(sides.module, [_blamed(sides, covered, other), *covered])
    if other is not None and other.module is not None and other.module not in paths:
        paths = (other.module, *paths)
    return Divergence(first, second, last, paths)


def _blamed(sides: Sides, covered: Sequence[int], other: Value | None) -> int:
    """Of several values whose work one operator does: the first, or the first with weights.

    A convolution may do the padding before it, which then is not what its weights are for.
    """
    if other is not None and _has_weights(sides.artefact, other):
        for number in covered:
            if _has_weights(sides.module, sides.module.values[number]):
                return number
    return covered[0]


def _has_weights(trace: Trace, value: Value) -> bool:
    sources = (trace.values[source] for source in value.sources)
    return any(not s.varies and s.floats and s.size > 1 for s in sources)


def _first_pair(sides: Sides, expected: Sequence[tuple[int, int]]) -> tuple[int, int | None]:
    wrong = _frontier(sides.module, sides.right_module)
    bad = _frontier(sides.artefact, sides.right_artefact)
    if not wrong:  # every value is there, but not where it belongs
        return expected[0] if expected else (len(sides.module.values) - 1, None)
    names = _classes(sides)
    roots = {n: _nearest(sides.module, n, names.get) for n in wrong}
    leaves = {n: _nearest(sides.artefact, n, _class_of(sides, names)) for n in bad}
    pairs = [(first, second) for first in wrong for second in (*bad, None)]

    def rank(pair: tuple[int, int | None]) -> tuple[float, int, int]:
        first, second = pair
        if second is None:
            return _score(sides, first), -first, -len(sides.artefact.values)
        both = roots[first] | leaves[second]
        shared = len(roots[first] & leaves[second]) / len(both) if both else 0.5
        return _score(sides, first) + _pair_score(sides, first, second, shared), -first, -second

    return max(pairs, key=rank)


def _hidden(sides: Sides, first: int, second: int | None) -> Sides | None:
    """The sides with a value no longer vouched for that is nearly right, not within noise.

    What vouched for it hides small errors: a clamp, a root, a sum with something large.
    """
    if second is None:
        return None
    before = _unmatched(sides.module, first, sides.match.of_module)
    others = _unmatched(sides.artefact, second, sides.match.of_artefact)
    if not any(
        _nearly(sides.module.values[number], sides.artefact.values[other])
        for number in before
        for other in others
    ):
        return None
    return replace(
        sides,
        right_module=[right and n not in before for n, right in enumerate(sides.right_module)],
        right_artefact=[right and n not in others for n, right in enumerate(sides.right_artefact)],
    )


def _unmatched(trace: Trace, number: int, matches: Sequence[Sequence[int]]) -> set[int]:
    """What a value is made of, back to values that agree."""
    found: set[int] = set()
    ahead = [*trace.values[number].sources]
    while ahead:
        source = trace.values[ahead.pop()]
        open_ = source.varies and source.operator and not matches[source.number]
        if open_ and source.number not in found:
            found.add(source.number)
            ahead.extend(source.sources)
    return found


def _nearly(value: Value, other: Value) -> bool:
    if value.size != other.size or not (value.floats and other.floats) or not value.kept.size:
        return False
    truth = value.kept if value.oracle is None else value.oracle
    with np.errstate(invalid="ignore", over="ignore"):
        apart = float(np.linalg.norm(other.kept.astype(np.float64) - truth))
        return apart < _NEARLY * float(np.linalg.norm(truth.astype(np.float64)))


def _frontier(trace: Trace, right: Sequence[bool]) -> list[int]:
    """Wrong values made of right ones; not those that nobody reads, as the mean of a norm."""
    read = {source for value in trace.values for source in value.sources}
    read.update(trace.outputs.values())
    return [
        value.number
        for value in trace.values
        if not right[value.number]
        and all(right[source] for source in value.sources)
        and (value.number in read or trace.failure)
    ]


def _score(sides: Sides, first: int) -> float:
    """How well a value of the module shows where it went wrong."""
    value = sides.module.values[first]
    return 1.0 * value.varies + 0.5 * telling(value)


def _pair_score(sides: Sides, first: int, second: int, shared: float) -> float:
    """How likely these two are the same place of the two runs; at most 4.5."""
    other = sides.artefact.values[second]
    chain = [sides.module.values[number] for number in _chain(sides, first)]
    sized = any(v.size == other.size and v.floats == other.floats for v in chain)
    noted = other.module is not None and any(v.module == other.module for v in chain)
    return 2.0 * shared + 1.0 * sized + 1.5 * noted


def _chain(sides: Sides, first: int) -> list[int]:
    """A wrong value and what is made of it, as far as an exporter may have fused."""
    found = [first]
    members = {first}
    for value in sides.module.values[first + 1 :]:
        if len(found) >= _FAR:
            break
        if not members.isdisjoint(value.sources):
            members.add(value.number)
            found.append(value.number)
    return found


def _counterpart(sides: Sides, chain: Sequence[int], other: Value) -> int:
    """The value among these that the artefact's stands for: same size, same module, most alike."""
    values = [sides.module.values[number] for number in chain]
    sized = [v for v in values if v.size == other.size and v.floats == other.floats]
    noted = other.module is not None
    named = [v for v in sized if noted and v.module == other.module] or sized
    if not named:
        return chain[0]
    if named is not sized:
        return max(named, key=lambda v: likeness(v, other)).number
    likely, number = max(
        (likeness(value, other) - _NEARNESS * place, value.number)
        for place, value in enumerate(named)
    )
    return number if likely > _ALIKE else chain[0]


def likeness(value: Value, other: Value) -> float:
    """The cosine between two values, each less its mean: -1 to 1."""
    if value.kept.size != other.kept.size or not value.kept.size:
        return 0.0
    a = _centred(value.kept if value.oracle is None else value.oracle)
    b = _centred(other.kept)
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length else 0.0


def _centred(flat: Array) -> Array:
    wide = np.nan_to_num(flat.astype(np.float64), posinf=0.0, neginf=0.0)
    peak = float(np.abs(wide).max())
    centred: Array = (wide - wide.mean()) / (peak or 1.0)
    return centred


def _classes(sides: Sides) -> dict[int, int]:
    """Values of the module that agree with the artefact -> the first that holds the same."""
    names: dict[int, int] = {}
    for found in sides.match.of_artefact:
        if found:
            first = min(names.get(number, number) for number in found)
            names.update(dict.fromkeys(found, first))
    return names


def _class_of(sides: Sides, names: dict[int, int]) -> Callable[[int], int | None]:
    def of(number: int) -> int | None:
        found = sides.match.of_artefact[number]
        return names[found[0]] if found else None

    return of


def _nearest(trace: Trace, number: int, name: Callable[[int], int | None]) -> frozenset[int]:
    """The nearest values before one that agree with the other side; weights are left out."""
    found: set[int] = set()
    seen: set[int] = set()
    ahead = list(trace.values[number].sources)
    while ahead:
        source = ahead.pop()
        if source in seen or not trace.values[source].varies:
            continue
        seen.add(source)
        known = name(source)
        if known is None:
            ahead.extend(trace.values[source].sources)
        else:
            found.add(known)
    return frozenset(found)


def _paths(trace: Trace, numbers: Iterable[int]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(trace.values[number].module or "" for number in numbers))

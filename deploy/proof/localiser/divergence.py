"""Where two runs part: the first value of the module that the artefact ought to have and has not.

A value that agrees vouches for all that led to it: an error does not vanish on its way. What is
left on both sides is what nothing vouches for, and where that begins, from values that are right,
the artefact went wrong. So a value without a counterpart (an exporter fuses, splits, folds) is no
alarm, because a later one vouches for it; and an error that only came from before is none either.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgeport.runtimes.inputs import Array

from .matching import Match, telling
from .trace import Trace, Value

_FAR: Final = 100
"""Values of the module after the first wrong one, among which the counterpart is sought."""

_NEARNESS: Final = 1e-3
"""How much less alike a value may be that comes one earlier."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first values that nothing vouches for.

    Attributes:
        module: In the module's trace.
        artefact: In the artefact's trace; ``None`` if it has nothing there.
        counterpart: The value of the module that ``artefact`` stands for: ``module``, or a later
            one where an exporter fused several operators into one.
        fused: Module paths from ``module`` to ``counterpart``.
    """

    module: int
    artefact: int | None
    counterpart: int
    fused: tuple[str, ...]


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
    wrong = _frontier(sides.module, sides.right_module)
    bad = _frontier(sides.artefact, sides.right_artefact)
    if not wrong:  # every value is there, but not where it belongs
        module, artefact = expected[0] if expected else (len(sides.module.values) - 1, None)
        return Divergence(module, artefact, module, _paths(sides.module, [module]))
    names = _classes(sides)
    roots = {n: _nearest(sides.module, n, lambda k: names.get(k)) for n in wrong}
    leaves = {n: _nearest(sides.artefact, n, _class_of(sides, names)) for n in bad}
    scored = [
        (
            *_score(sides, first, roots[first], second, leaves.get(second, frozenset())),
            first,
            second,
        )
        for first in wrong
        for second in (*bad, None)
    ]
    *_, first, second = max(
        scored, key=lambda s: (s[0], -s[1], -(len(sides.artefact.values) if s[2] is None else s[2]))
    )
    chain = _chain(sides, first)
    last = first if second is None else _counterpart(sides, chain, sides.artefact.values[second])
    return Divergence(first, second, last, _paths(sides.module, chain[: chain.index(last) + 1]))


def _frontier(trace: Trace, right: Sequence[bool]) -> list[int]:
    return [
        value.number
        for value in trace.values
        if not right[value.number] and all(right[source] for source in value.sources)
    ]


def _score(
    sides: Sides,
    first: int,
    roots: frozenset[int],
    second: int | None,
    leaves: frozenset[int],
) -> tuple[float]:
    """How likely these two are the same place of the two runs."""
    value = sides.module.values[first]
    score = 1.0 * value.varies + 0.5 * telling(value)
    if second is None:
        return (score,)
    other = sides.artefact.values[second]
    both = roots | leaves
    score += 2.0 * (len(roots & leaves) / len(both) if both else 0.5)
    chain = [sides.module.values[number] for number in _chain(sides, first)]
    score += 1.0 * any(v.size == other.size and v.floats == other.floats for v in chain)
    if other.module is not None:
        score += 1.5 * any(v.module == other.module for v in chain)
    return (score,)


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
    named = [v for v in sized if v.module == other.module and other.module is not None] or sized
    if not named:
        return chain[0]
    best = max(enumerate(named), key=lambda at: likeness(at[1], other) - _NEARNESS * at[0])
    return best[1].number


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

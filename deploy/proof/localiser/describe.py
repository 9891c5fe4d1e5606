"""From two runs and the place where they part to what a person reads."""

from collections.abc import Iterator, Sequence
from typing import Final

from edgeport.runtimes.parity.rule import Figures

from .divergence import Divergence, Sides, likeness
from .matching import Judge
from .result import Summary, Tensor, WalkStep
from .trace import Value

_LIKE: Final = 0.9
_LONGEST_WALK: Final = 2000


def walk(sides: Sides, judge: Judge, found: Divergence) -> tuple[WalkStep, ...]:
    """Error and floor of the module's values, in the order in which they are computed.

    Before the divergence these are the values that agree; after it, those whose counterpart can
    be told by its place, its size and its likeness.
    """
    pairs: dict[int, tuple[Value, Value]] = {}  # by the artefact's value: one each
    last = -1
    for value in sides.module.values:
        if not (value.operator and value.varies and value.floats) or value.view:
            continue
        pair = _partner(sides, value, found, last)
        if pair is None:
            continue
        rival = pairs.get(pair.number)
        if rival is None or likeness(value, pair) >= likeness(rival[0], pair):
            pairs[pair.number] = value, pair
        last = max(last, pair.number)
    ordered = sorted(pairs.values(), key=lambda both: both[0].number)[:_LONGEST_WALK]
    return tuple(
        _step(
            depth,
            value,
            pair,
            sides.match.figures.get((value.number, pair.number)) or judge.compare(value, pair),
        )
        for depth, (value, pair) in enumerate(ordered)
    )


def _step(depth: int, value: Value, pair: Value, figures: Figures) -> WalkStep:
    return WalkStep(
        depth,
        value.module or "",
        value.operator,
        pair.name,
        figures.floor_rms,
        figures.error_rms,
        figures.ratio,
    )


def _partner(sides: Sides, value: Value, found: Divergence, last: int) -> Value | None:
    agreeing = sides.match.of_module[value.number]
    if agreeing:
        return sides.artefact.values[agreeing[0]]
    if value.number == found.counterpart and found.artefact is not None:
        return sides.artefact.values[found.artefact]
    if sides.right_module[value.number] or found.module <= value.number <= found.counterpart:
        return None
    return _alike(sides, value, last)


def _alike(sides: Sides, value: Value, last: int) -> Value | None:
    """The next wrong value of the artefact that has this size, and is like this one."""
    after = sides.artefact.values[max(last, 0) :]
    ahead = [
        other
        for other in after
        if other.operator
        and other.floats
        and other.size == value.size
        and not sides.right_artefact[other.number]
        and (other.module is None or other.module == value.module)
    ][:4]
    best = max(ahead, key=lambda other: likeness(value, other), default=None)
    return best if best is not None and likeness(value, best) > _LIKE / 2 else None


def tensors(sides: Sides, judge: Judge, found: Divergence) -> Iterator[Tensor]:
    """What goes into the operator that went wrong, and what comes out."""
    first = sides.module.values[found.module]
    if found.artefact is None:
        for number in first.sources:
            yield _module_tensor(sides.module.values[number])
        yield _module_tensor(first)
        return
    other = sides.artefact.values[found.artefact]
    weights = [] if found.paths[1:] else _weights(sides, first)  # fused weights are new ones
    for number in other.sources:
        source = sides.artefact.values[number]
        if not source.kept.size:
            continue
        yield _input(sides, judge, source, weights)
    last = sides.module.values[found.counterpart]
    yield _compared("output", other, last, judge)


def _module_tensor(value: Value) -> Tensor:
    role = "output" if value.operator else "input" if value.varies else "weight"
    name = value.name or value.operator
    oracle = None if value.oracle is None else Summary.of(value.oracle)
    return Tensor(role, name, value.shape, Summary.of(value.kept), oracle, None, None)


def _input(sides: Sides, judge: Judge, source: Value, weights: Sequence[Value]) -> Tensor:
    agreeing = sides.match.of_artefact[source.number]
    if agreeing:
        twin: Value | None = sides.module.values[agreeing[0]]
    elif source.varies:
        twin = None
    else:
        twin = max(
            (w for w in weights if w.size == source.size and w.floats == source.floats),
            key=lambda weight: likeness(weight, source),
            default=None,
        )
    role = "input" if source.varies else "weight"
    if twin is None:
        name = source.name or source.operator
        return Tensor(role, name, source.shape, None, None, Summary.of(source.kept), None)
    return _compared(role, source, twin, judge)


def _weights(sides: Sides, first: Value) -> list[Value]:
    """The module's weights that a value is made of, turned round or as they are."""
    found = []
    ahead = [*first.sources]
    while ahead:
        value = sides.module.values[ahead.pop()]
        if not value.varies:
            found.append(value)
            ahead.extend(value.sources)
    return found


def _compared(role: str, other: Value, value: Value, judge: Judge) -> Tensor:
    comparable = value.size == other.size and value.kept.size == other.kept.size
    ratio = judge.compare(value, other).ratio if comparable else None
    return Tensor(
        role,
        other.call if isinstance(other.call, str) else other.name or value.name or other.operator,
        other.shape,
        Summary.of(value.kept),
        None if value.oracle is None else Summary.of(value.oracle),
        Summary.of(other.kept),
        ratio,
    )

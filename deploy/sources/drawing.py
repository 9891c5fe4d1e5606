"""Values for inputs that nothing is known of, in a way that the module has an answer to.

A mask that hides a whole row, a length of zero, the logarithm of a negative number: a module
rejects them, or answers NaN, and then nothing is proved. So there are several ways to draw each
kind of input, and a source takes the first in which the module answers numbers.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import numpy as np

from edgeport.runtimes import Signature, TensorSpec
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.sizes import size_at
from edgeport.runtimes.text import is_text

Table: TypeAlias = int | str
"""What integers are looked up in: one more than the last that is valid, or the free dimension
that it is as long as."""

Kind: TypeAlias = Literal[
    "floats",
    "floats like",
    "flag",
    "flags",
    "counts",
    "counts like",
    "bytes",
    "shorts",
    "index",
    "index like",
    "lengths or index like",
    "offsets",
    "like",
    "text",
]
"""What an input is, by its dtype and shape and by what is known of it: ``counts`` has one axis,
which another input shares, as lengths do; ``index`` is looked up in a table; ``offsets`` say
where bags of indices begin."""

_GUESSED: Final[tuple[Kind, ...]] = ("flag", "flags", "counts", "bytes", "shorts", "index")

_MOST_STYLES: Final = 12
"""Tried beside the first, each with a few runs of a module that may be slow."""

_MOST_APART: Final = 3
"""Inputs of one kind that are also drawn each in another way."""


@dataclass(frozen=True, slots=True)
class Values:
    """Where the values of samples come from.

    Attributes:
        real: The caller's samples, each complete and of any allowed size. Their rows are cut or
            repeated to the sizes that are probed.
        like: An example to draw values like, where there are no real ones.
        tables: What integers are looked up in, where none are real.
        offsets: Those of the integers with a table that say where bags of it begin.
        firsts: The least that is looked up, where it is not 0: 1900 in ``table[year - 1900]``.
        style: Which of the ways to draw an input; the first where nothing is said.
        names: What to call each real one in an error; numbers where nothing is said.
    """

    real: Sequence[Mapping[str, Array]] = ()
    like: Mapping[str, Array] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    offsets: frozenset[str] = frozenset()
    firsts: Mapping[str, int] = field(default_factory=dict)
    style: Mapping[str, int] = field(default_factory=dict)
    names: Sequence[str] = ()

    def seen(self, name: str) -> Array:
        """Integers that an input is known to take; 0 if nothing is known."""
        table = self.tables.get(name)
        if self.real:
            return np.concatenate([sample[name].reshape(-1) for sample in self.real])
        if isinstance(table, int):
            return np.array([self.firsts.get(name, 0), table - 1])
        return self.like.get(name, np.zeros(1, int))


def kind_of(declared: Signature, spec: TensorSpec, values: Values) -> Kind:
    """What an input is."""
    like = values.like.get(spec.name, np.zeros(0))
    counts = spec.dtype != "bool" and measured(declared, spec) is not None
    if is_text(spec):
        return "text"
    if like.size and like.dtype.kind == "f":
        return "floats like" if np.isfinite(like).all() and like.min() < like.max() else "like"
    if spec.name in values.offsets:
        return "offsets"
    if spec.name in values.tables:
        if not like.size:
            return "index"
        return "lengths or index like" if counts else "index like"
    if like.size and not np.isin(like, (0, 1)).all():
        return "counts like" if counts else "like"
    if spec.dtype.startswith("float"):
        return "floats"
    if spec.dtype in ("int8", "uint8") and not like.size:
        return "bytes"
    if counts and not like.size:
        return "counts"
    if spec.dtype in ("int16", "uint16") and spec.shape and not like.size:
        return "shorts"  # samples of sound or of a sensor: torch takes none for an index
    return "flags" if len(spec.shape) > 1 else "flag"


def other_styles(declared: Signature, values: Values) -> Iterator[dict[str, int]]:
    """Which way to draw each input otherwise, the likely ones first.

    Inputs of one kind go together at first: two masks that hide are likelier than one that hides
    beside one that shows.
    """
    names: dict[Kind, list[str]] = {}
    for spec in declared.inputs:
        names.setdefault(kind_of(declared, spec, values), []).append(spec.name)
    choices = [list(_choices(kind, alike)) for kind, alike in names.items()]
    ranked = sorted(itertools.product(*choices), key=lambda parts: sum(cost for cost, _ in parts))
    for parts in ranked[1 : _MOST_STYLES + 1]:
        yield {name: number for _, style in parts for name, number in style.items()}


def _choices(kind: Kind, alike: Sequence[str]) -> Iterator[tuple[int, dict[str, int]]]:
    """Ways of inputs of one kind, with a cost that puts them in order."""
    ways = _WAYS[kind]
    for number in range(len(ways)):
        yield number, dict.fromkeys(alike, number)
    if len(ways) > 1 and 1 < len(alike) <= _MOST_APART:
        for numbers in itertools.product((0, 1), repeat=len(alike)):
            if len(set(numbers)) > 1:
                yield 2, dict(zip(alike, numbers, strict=True))


def draw(
    declared: Signature,
    spec: TensorSpec,
    sizes: Mapping[str, int],
    values: Values,
    generator: np.random.Generator,
) -> Array:
    """Draw one input at these sizes of the free dimensions."""
    kind = kind_of(declared, spec, values)
    longest = measured(declared, spec) or 1
    table = values.tables.get(spec.name, 2)
    asked = _Asked(
        generator,
        tuple(size_at(size, sizes) for size in spec.shape),
        spec.dtype,
        values.like.get(spec.name, np.zeros(0)),
        values.firsts.get(spec.name, 0),
        size_at(table, sizes),
        size_at(longest, sizes),
    )
    way = _WAYS[kind][values.style.get(spec.name, 0)]
    return way.draw(asked).astype(spec.dtype)


def told(declared: Signature, values: Values) -> Iterator[str]:
    """Sentences for the user on integers that were guessed, and on ways that would not do."""
    names: dict[str, list[str]] = {}
    for spec in declared.inputs:
        kind = kind_of(declared, spec, values)
        number = values.style.get(spec.name, 0)
        if number or (kind in _GUESSED and spec.dtype != "bool"):
            ends = f"{values.firsts.get(spec.name, 0):,}", _last(values.tables.get(spec.name))
            what = _WAYS[kind][number].told.format(*ends)
            names.setdefault(f"tried with {what}{_why(kind, number)}", []).append(spec.name)
    for sentence, found in names.items():
        yield f"{' and '.join(found)}: {sentence}"


def _why(kind: Kind, number: int) -> str:
    if number:
        why = ", as the module fails, or answers NaN or Inf, otherwise"
    elif kind == "index":
        return ""
    else:
        why = ", as nothing says which are valid"
    return f"{why}; give real ones with samples"


def _last(table: Table | None) -> str:
    return f"{table - 1:,}" if isinstance(table, int) else f"{table} - 1"


@dataclass(frozen=True, slots=True)
class _Asked:
    generator: np.random.Generator
    shape: tuple[int, ...]
    dtype: str
    like: Array
    first: int
    table: int
    longest: int


@dataclass(frozen=True, slots=True)
class _Way:
    draw: Callable[[_Asked], Array]
    told: str = ""


def measured(declared: Signature, spec: TensorSpec) -> int | str | None:
    """The axis that an input of one axis may measure: the next one of an input that shares its."""
    if len(spec.shape) != 1:
        return None
    for other in declared.inputs:
        if len(other.shape) > 1 and spec.shape[0] in other.shape[:2]:
            return other.shape[1 - other.shape.index(spec.shape[0])]
    return None


def _normal(asked: _Asked) -> Array:
    return asked.generator.standard_normal(asked.shape)


def _normal_like(asked: _Asked) -> Array:
    like: Array = asked.like.astype(np.float64)  # squares of float32 end at 1e19
    drawn: Array = like.mean() + like.std() * _normal(asked)
    return drawn


def _zero_or_one(asked: _Asked) -> Array:
    return asked.generator.integers(0, 2, asked.shape)


def _in_each_row(asked: _Asked, value: int, *, always: bool = False) -> Array:
    """Zeros and ones; the first of a row is ``value`` always, or where the whole row is not."""
    drawn = _zero_or_one(asked)
    if drawn.size:
        lacking = (drawn != value).all(-1) | always
        drawn[..., 0] = np.where(lacking, value, drawn[..., 0])
    return drawn


def _all(asked: _Asked) -> Array:
    info = np.iinfo(asked.dtype)
    return asked.generator.integers(info.min, info.max + 1, asked.shape)


def _lengths(asked: _Asked) -> Array:
    """In falling order, as ``torch.nn.utils.rnn.pack_padded_sequence`` wants them."""
    return -np.sort(-asked.generator.integers(1, asked.longest + 1, asked.shape))


def _rows(asked: _Asked) -> Array:
    most = min(asked.table, np.iinfo(asked.dtype).max + 1)
    return asked.generator.integers(asked.first, max(most, asked.first + 1), asked.shape)


def _offsets(asked: _Asked) -> Array:
    """Where bags begin: the first at 0, and none behind the end."""
    drawn = np.sort(asked.generator.integers(0, asked.table + 1, asked.shape))
    drawn[:1] = 0
    return drawn


def _chosen(asked: _Asked) -> Array:
    return asked.generator.choice(asked.like.reshape(-1), asked.shape)


def _as_given(asked: _Asked) -> Array:
    return cut_or_repeated(asked.like, dict(enumerate(asked.shape)))


def cut_or_repeated(array: Array, sizes: Mapping[int, int], start: int = 0) -> Array:
    """Cut or repeat axes to these sizes, the first one from ``start`` on."""
    for axis in sorted(sizes, key=lambda axis: sizes[axis] - array.shape[axis]):  # cut, then repeat
        places = (0 if axis else start) + np.arange(sizes[axis])
        array = array.take(places % array.shape[axis], axis)
    return array


_ANY: Final = _Way(_zero_or_one, "0 and 1")
_ONES: Final = _Way(lambda asked: np.ones(asked.shape), "1 alone")
_LENGTHS: Final = _Way(_lengths, "lengths from 1 on, the longest first")

_WAYS: Final[Mapping[Kind, tuple[_Way, ...]]] = {
    "floats": (
        _Way(_normal),
        _Way(lambda asked: np.abs(_normal(asked)), "positive values"),
        _Way(lambda asked: asked.generator.random(asked.shape), "values between 0 and 1"),
    ),
    "floats like": (_Way(_normal_like), _Way(_chosen, "the values of the example")),
    "flags": (
        _Way(lambda asked: _in_each_row(asked, 1), "0 and 1, a 1 in each row"),
        _Way(lambda asked: _in_each_row(asked, 0), "0 and 1, a 0 in each row"),
        _Way(lambda asked: _in_each_row(asked, 1, always=True), "0 and 1, a 1 first in each row"),
        _Way(lambda asked: _in_each_row(asked, 0, always=True), "0 and 1, a 0 first in each row"),
        _ANY,
        _ONES,
    ),
    "flag": (_ANY, _ONES),
    "counts": (_LENGTHS, _ANY, _ONES),
    "counts like": (_Way(_chosen), _LENGTHS),
    "bytes": (_Way(_all, "all bytes"), _ANY),
    "shorts": (_Way(_all, "all integers of 16 bits"), _ANY),
    "index": (_Way(_rows, "every valid index, {} to {}"), _ANY),
    "index like": (
        _Way(_rows),
        _Way(_chosen, "the values of the example"),
        _Way(_as_given, "the rows of the example"),
    ),
    "lengths or index like": (  # F.one_hot(lengths - 1, 64)
        _Way(_rows),
        _LENGTHS,
        _Way(_chosen, "the values of the example"),
        _Way(_as_given, "the rows of the example"),
    ),
    "offsets": (_Way(_offsets),),
    "like": (_Way(_chosen), _Way(_as_given, "the rows of the example")),
    "text": (_ANY,),
}

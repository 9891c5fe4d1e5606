"""Random modules as Python source.

Statements are drawn from ``statements.txt``, and kept if eager then runs the program at every size
that is tried: so it has no rules of its own on shapes and dtypes. A program may be drawn in another
form: scripted, traced, with nested inputs and outputs, mostly of corners (``edges.txt``, sizes of 0
and 1), or in another dtype of floats.
"""

import linecache
import random
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor, nn

from edgeport.runtimes import Range, TensorSpec
from edgeport.runtimes.inputs import Array

Sizes: TypeAlias = Mapping[str, int]

Form: TypeAlias = Literal[
    "eager", "scripted", "traced", "nested", "layers", "edges", "float64", "float16", "bfloat16"
]
"""What a program is given as."""

FORMS: Final[tuple[Form, ...]] = get_args(Form)


def _paragraphs(name: str) -> list[str]:
    read = (Path(__file__).parent / name).read_text().strip().split("\n\n")
    return [paragraph for paragraph in read if not paragraph.startswith("#")]


STATEMENTS: Final = _paragraphs("statements.txt")
_CONTROL_FLOW: Final = _paragraphs("control_flow.txt")
_EDGES: Final = _paragraphs("edges.txt")
_LAYERS: Final = [statement for statement in STATEMENTS if statement.startswith("[nn.")]

STYLES: Final = ("usual", "zeros", "ones", "negative", "large", "halves", "negative zeros")
"""Ways to draw values, most of which no export tries."""

_DTYPES: Final = [
    *["float32"] * 12,
    *["int64"] * 5,
    *["bool", "bool", "uint8", "int32", "int8", "float64", "float16"],
]
_RANGES: Final = [
    *[Range(1, 16), Range(1, 40), Range(2, 9), Range(3, 20), Range(4, 64)],
    *[Range(4, 32, step=4), Range(2, 24, step=2)],
]
_EDGE_RANGES: Final = [Range(0, 5), Range(1, 3), Range(0, 12), Range(1, 40)]
_MOST_ELEMENTS: Final = 20_000
_LARGEST: Final = 1e6
_TRIES: Final = 400


@dataclass(frozen=True, slots=True)
class Program:
    """A module and how it is called."""

    seed: int
    inputs: tuple[TensorSpec, ...]
    ranges: Mapping[str, Range]
    layers: tuple[str, ...] = ()
    body: tuple[str, ...] = ()
    result: str = ""
    scripted: bool = True
    form: Form = "eager"

    @property
    def name(self) -> str:
        return f"Program{self.seed}"

    @property
    def live(self) -> tuple[str, ...]:
        """Its variables."""
        made = (f"v{number}" for number in range(len(self.body)))
        return (*(spec.name for spec in self.inputs), *made)

    def source(self) -> str:
        names = "".join(f", {spec.name}" for spec in self.inputs)
        unpacked: tuple[str, ...] = ()
        if self.form == "nested":
            names, unpacked = ", given", (_UNPACKED[len(self.inputs)],)
        names += "" if self.scripted else ", **options"  # which torch.jit.script refuses
        made = "".join(f"        self.{line}\n" for line in self.layers)
        result = self.result or f"{{{', '.join(f'{name!r}: {name}' for name in self.live)}}}"
        lines = (*unpacked, *self.body, f"return {result}")
        body = textwrap.indent("\n".join(lines), " " * 8)
        return (
            "from dataclasses import dataclass\n\nimport torch\nimport torch.nn.functional as F\n"
            "from torch import nn\n\n\n@dataclass\nclass Pair:\n"
            "    first: torch.Tensor\n    rest: object\n\n\n"
            f"class {self.name}(nn.Module):\n"
            f"    def __init__(self):\n        super().__init__()\n{made}\n"
            f"    def forward(self{names}):\n{body}\n"
        )

    def made(self) -> nn.Module:
        """The module; of a program in another form, that form of it."""
        space: dict[str, Any] = {"__name__": "fuzzed"}
        file = f"{self.name}.fuzzed"
        source = self.source()
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        exec(compile(source, file, "exec"), space)
        return self.formed(space[self.name])

    def formed(self, made: type[nn.Module]) -> nn.Module:
        """An instance in the program's form."""
        torch.manual_seed(self.seed)
        module = made().eval()
        if self.form in _FLOATS:
            return module.to(getattr(torch, self.form))
        if self.form == "scripted":
            scripted: nn.Module = torch.jit.script(module)
            return scripted
        if self.form == "traced":
            *_, sizes = self.sizes(3)
            given = self.given(sizes, np.random.default_rng(self.seed), "usual")
            traced: nn.Module = _trace(module, given, check_trace=False, strict=False)
            return traced
        return module

    def given(self, sizes: Sizes, generator: np.random.Generator, style: str) -> tuple[Any, ...]:
        """Arguments of forward."""
        drawn = [self.tensor(s, values(s, sizes, generator, style)) for s in self.inputs]
        return (self.argument(drawn),) if self.form == "nested" else tuple(drawn)

    def argument(self, given: Sequence[Any]) -> Any:
        """The one argument of a nested program."""
        first, *rest = given
        return {"x": first, "rest": [rest[:1], {"z": rest[1:]}]}

    def tensor(self, spec: TensorSpec, array: Array) -> Tensor:
        """As forward takes it."""
        tensor = torch.tensor(array)
        narrowed = self.form in _FLOATS and spec.dtype == "float32"
        return tensor.to(getattr(torch, self.form)) if narrowed else tensor

    def sizes(self, count: int) -> Iterator[dict[str, int]]:
        """The smallest, the largest, then others."""
        generator = random.Random(self.seed)
        ends = [
            {n: r.min for n, r in self.ranges.items()},
            {n: most(r) for n, r in self.ranges.items()},
        ]
        yield from ends[:count] if self.ranges else [{}]
        for _ in range(count - len(ends)):
            yield {
                n: generator.randrange(r.min, most(r) + 1, r.step) for n, r in self.ranges.items()
            }


_trace: Any = torch.jit.trace  # torch.jit has no types
_READ: Final = ("scripted", "traced")
"""By torch.jit, whatever ``Program.scripted`` says."""
_FLOATS: Final = ("float64", "float16", "bfloat16")
_UNPACKED: Final[Mapping[int, str]] = {
    1: "x = given['x']",
    2: "x, y = given['x'], given['rest'][0][0]",
    3: "x, y, z = given['x'], given['rest'][0][0], given['rest'][1]['z'][0]",
}


def most(range_: Range) -> int:
    return range_.max or range_.min


def draw(seed: int, longest: int = 8, form: Form = "eager") -> Program | None:
    """A program of at least three statements; ``None`` if the draw comes to nothing."""
    generator = random.Random(seed)
    program = _empty(generator, seed, _EDGE_RANGES if form == "edges" else _RANGES)
    program = replace(program, form=form, scripted=program.scripted or form in _READ)
    try:
        live = _run(program)
    except ValueError:  # inputs of thousands of elements
        return None
    wanted = generator.randrange(3, longest)
    for _ in range(_TRIES):
        if len(program.body) == wanted:
            break
        longer = _with_statement(program, generator, live[0])
        if longer is not None:
            try:
                live = _run(longer)
                program = longer
            except Exception:  # eager may raise anything: another statement then
                continue
    if len(program.body) < 3:
        return None
    return replace(program, result=_result(program, generator, [*live[0]]))


def values(spec: TensorSpec, sizes: Sizes, generator: np.random.Generator, style: str) -> Array:
    """One input."""
    shape = tuple(size if isinstance(size, int) else sizes[size] for size in spec.shape)
    kind = np.dtype(spec.dtype).kind
    if kind == "b":
        return generator.random(shape) < {"zeros": 0, "ones": 1}.get(style, 0.5)
    if kind in "iu":
        ends = {"usual": (-4, 9), "zeros": (0, 0), "ones": (1, 1), "negative": (-100, -1)}
        info = np.iinfo(spec.dtype)
        low, high = np.clip(ends.get(style, (-(2**40), 2**40)), int(info.min), int(info.max))
        return generator.integers(low, high, shape, endpoint=True).astype(spec.dtype)
    x = generator.standard_normal(shape)
    ways: Mapping[str, Callable[[Array], Array]] = {
        "zeros": np.zeros_like,
        "ones": np.ones_like,
        "negative": lambda x: -np.abs(x),
        "large": lambda x: x * 50,
        "halves": lambda x: np.round(x * 2) / 2,
        "negative zeros": lambda x: np.minimum(x, -0.0),
    }
    drawn: Array = ways[style](x) if style in ways else x
    return drawn.astype(spec.dtype)


def _empty(generator: random.Random, seed: int, ways: Sequence[Range]) -> Program:
    names = generator.sample(["n", "m"], generator.choice([0, 1, 1, 1, 2, 2]))
    ranges = {name: generator.choice(ways) for name in names}
    sizes: list[int | str] = [*names, *names, 1, 2, 3, 4, 6]
    inputs = []
    for name in "xyz"[: generator.choice([1, 1, 2, 2, 3])]:
        rank = generator.choice([1, 2, 2, 3, 3, 3, 4])
        shape = tuple(generator.choice(sizes) for _ in range(rank))
        inputs.append(TensorSpec(name, generator.choice(_DTYPES), shape))
    used = {size for spec in inputs for size in spec.shape}
    ranges = {name: range_ for name, range_ in ranges.items() if name in used}
    return Program(seed, tuple(inputs), ranges, scripted=generator.random() < 0.7)


def _run(program: Program) -> list[dict[str, Tensor]]:
    """The variables at each of some sizes.

    Raises:
        Exception: Whatever eager raises, or ``ValueError`` if something is too large.
    """
    module = program.made()
    found = []
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, sizes in enumerate(program.sizes(6)):
            generator = np.random.default_rng(number)
            live = module(*program.given(sizes, generator, "usual"))
            if any(map(_is_too_large, live.values())):
                raise ValueError("too large")
            found.append(live)
    return found


def _is_too_large(value: Tensor) -> bool:
    if value.numel() > _MOST_ELEMENTS or value.dim() > 5 or value.is_complex():
        return True
    return value.is_floating_point() and not bool((value.abs() < _LARGEST).all())


def _with_statement(
    program: Program, generator: random.Random, live: Mapping[str, Tensor]
) -> Program | None:
    number = len(program.body)
    statement = generator.choice(STATEMENTS)
    if program.form in _MORE_OFTEN and generator.random() < _OFTEN.get(program.form, 0.3):
        statement = generator.choice(_MORE_OFTEN[program.form])
    text = _filled(statement, program.inputs, live, generator)
    if text is None:
        return None
    text = re.sub(r"\bV\b", f"v{number}", text)
    if (layer := re.match(r"\[(.+?)\] (?=v)", text)) is None:
        return replace(program, body=(*program.body, text))
    use = re.sub(r"\bL\b", f"self.l{number}", text[layer.end() :])
    layers = (*program.layers, f"l{number} = {layer[1]}")
    return replace(program, body=(*program.body, use), layers=layers)


_MORE_OFTEN: Final[Mapping[str, Sequence[str]]] = {
    "scripted": _CONTROL_FLOW,
    "layers": _LAYERS,
    "edges": _EDGES,
}
_OFTEN: Final[Mapping[str, float]] = {"edges": 0.7}

_KINDS: Final[Mapping[str, Callable[[torch.dtype], bool]]] = {
    "a": lambda dtype: True,
    "f": lambda dtype: dtype.is_floating_point,
    "i": lambda dtype: not dtype.is_floating_point and dtype != torch.bool,
    "b": lambda dtype: dtype == torch.bool,
}


def _filled(
    statement: str,
    inputs: Sequence[TensorSpec],
    live: Mapping[str, Tensor],
    generator: random.Random,
) -> str | None:
    """A statement with something in each of its holes; ``None`` where nothing fits."""
    drawn: list[str] = []
    axes: list[int] = []

    def axis() -> int:
        rank = live[drawn[0]].dim()
        axes.append(generator.randrange(-rank, rank))
        return axes[-1]

    def hole(match: re.Match[str]) -> str:
        kind = match[1]
        if kind in _KINDS:
            fitting = [name for name in live if _KINDS[kind](live[name].dtype)]
            drawn.append(fitting[-1] if generator.random() < 0.5 else generator.choice(fitting))
            return drawn[-1]
        if kind == "s":
            return f"{drawn[0]}.shape[{axes[0] if axes else axis()}]"
        if kind in "de":
            return str(axis())
        if kind == "n":
            spec = generator.choice([spec for spec in inputs if spec.shape])
            free = [place for place, size in enumerate(spec.shape) if isinstance(size, str)] or [0]
            size = f"{spec.name}.shape[{generator.choice(free)}]"
            return generator.choice([size, size, *(f"({size} {more})" for more in _MORE)])
        ranges = {"k": range(-3, 5), "p": range(1, 6), "c": (0.5, -1.5, 2, 1e-3, 3, -1)}
        return drawn[0] if kind == "A" else str(generator.choice(ranges[kind]))

    try:
        text = re.sub(r"\{([afibAdeskpcn])\}", hole, statement)
    except (IndexError, ValueError):  # nothing of that kind, or no axis
        return None
    sizes = [*live[drawn[0]].shape] if drawn else []
    last, channels = [1, *sizes][-1], [*sizes, 1, 1][1]
    return text.replace("{L}", str(last)).replace("{C}", str(channels))


_MORE: Final = ("// 2", "+ 1", "- 1", "* 2")


def _result(program: Program, generator: random.Random, names: Sequence[str]) -> str:
    """What is used no more, as a tensor, a tuple or a dict."""
    text = "\n".join(program.body)
    unused = [n for n in names if n[0] == "v" and len(re.findall(rf"\b{n}\b", text)) == 1]
    outputs = list(dict.fromkeys([*unused, names[-1]]))[-4:]
    if generator.random() < 0.15:
        outputs.append(generator.choice(names))
    if program.form == "nested":
        first, *rest = outputs
        listed = ", ".join(rest)
        return generator.choice(
            [
                f"Pair({first}, [{listed}])",
                f"[{{'a': ({first}, None), 'b': Pair({first}, ({listed}))}}]",
                f"({first}, {{'rest': [{listed}], 'all': {{'p': Pair({first}, None)}}}})",
            ]
        )
    if len(outputs) == 1 and generator.random() < 0.7:
        return outputs[0]
    listed = ", ".join(outputs)
    named = ", ".join(f'"o{number}": {name}' for number, name in enumerate(outputs))
    apart = f"({outputs[0]}, None, [{listed}])"
    ways = [f"({listed},)", apart, f"{{{named}}}"]
    return generator.choice([way for way in ways if program.form != "traced" or way != apart])

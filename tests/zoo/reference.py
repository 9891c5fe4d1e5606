"""The zoo's own oracle, apart from the product's: what eager answers, and eager in float64."""

import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.rule import Figures, Verdict, judge, measure, pool_floors
from edgeport.runtimes.parity.thresholds import Thresholds

from .entry import Entry, Inputs
from .nested import mapped, tensors

DRAWS = 2
"""Draws at each size, where there is a free dimension."""

UNSIZED_DRAWS = 6
"""Draws where there is none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the module answers to inputs that no exporter has seen.

    Attributes:
        sample: Which sizes and draw.
        inputs: As forward takes them.
        eager, oracle: Its outputs in order; ``None`` where float64 has no answer.
    """

    sample: str
    inputs: Inputs
    eager: tuple[Array, ...]
    oracle: tuple[Array | None, ...]


def answers(
    entry: Entry, make: Callable[[], nn.Module], most_sizes: int | None = None
) -> list[Answer]:
    """Answers of a module at several sizes of every free dimension.

    Args:
        entry: Its entry.
        make: Makes the module, with the same weights each time: not every module can be copied.
        most_sizes: Stop after so many sizes.
    """
    module, wide = inner(make()).eval(), inner(make()).eval()
    for lazy in (module, wide):
        run(lazy, entry.inputs())  # it has no weights to widen before
    wide.double()
    found = []
    for seed, sizes in enumerate(held_out_sizes(entry, most_sizes)):
        inputs = entry.check(seed, sizes)
        eager = run(module, inputs)
        label = " ".join([*(f"{name}={size}" for name, size in sizes.items()), f"draw={seed}"])
        found.append(Answer(label, inputs, eager, _oracle(wide, inputs, eager)))
    return found


def held_out_sizes(entry: Entry, most: int | None = None) -> list[dict[str, int]]:
    """Sizes of all free dimensions at once, each at another place of its own list."""
    if not entry.free:
        return [{}] * UNSIZED_DRAWS
    probes = {name: _probes(entry, name) for name in entry.free}
    return [
        {
            name: sizes[(step + place) % len(sizes)]
            for place, (name, sizes) in enumerate(probes.items())
        }
        for step in range(max(map(len, probes.values())))[:most]
        for _ in range(DRAWS)
    ]


def _probes(entry: Entry, name: str) -> list[int]:
    allowed = entry.range_of(name)
    low = allowed.min
    sizes = {1, 3, 7, low, low + 2, low + 6, entry.usual[name], min(allowed.max or 13, 64)}
    return sorted((size for size in sizes if size in allowed), key=lambda size: (size < 2, size))


def compare(expected: Sequence[Answer], actual: Sequence[Sequence[Array]]) -> list[Verdict]:
    """Judge outputs, in order, by the product's parity rule."""
    counts = {len(outputs) for outputs in actual}
    if counts != {len(expected[0].eager)}:
        raise ValueError(f"{counts} outputs, the module gives {len(expected[0].eager)}")
    verdicts: list[Verdict] = []
    for place in range(len(expected[0].eager)):
        figures = pool_floors(
            [
                measure(outputs[place], answer.eager[place], answer.oracle[place])
                for answer, outputs in zip(expected, actual, strict=True)
            ]
        )
        verdicts += _judged(f"output {place}", expected, figures)
    return verdicts


def _judged(name: str, expected: Sequence[Answer], figures: Sequence[Figures]) -> list[Verdict]:
    return [
        judge(name, answer.sample, f, Thresholds())
        for answer, f in zip(expected, figures, strict=True)
    ]


def inner(module: nn.Module) -> nn.Module:
    """What is inside ``DataParallel`` and ``torch.compile``."""
    found: nn.Module = getattr(module, "_orig_mod", module)
    return found.module if isinstance(found, nn.DataParallel) else found


def bound(module: nn.Module, inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments for a call: the leading ones by position, the rest by name.

    Names that are all new to forward are taken in order.
    """
    parameters = inspect.signature(inner(module).forward).parameters
    if not set(inputs) & set(parameters):
        return tuple(inputs.values()), {}
    args: list[Any] = []
    rest = dict(inputs)
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            args.extend(rest.pop(name, ()))
        elif name not in rest or parameter.kind is parameter.KEYWORD_ONLY:
            break
        else:
            args.append(rest.pop(name))
    return tuple(args), rest


def run(module: Callable[..., Any], inputs: Inputs) -> tuple[Array, ...]:
    """The outputs of one call on copies of the inputs, in order."""
    assert isinstance(module, nn.Module)
    args, kwargs = bound(module, mapped(Tensor.clone, inputs))
    with torch.no_grad():
        return tuple(map(as_array, tensors(module(*args, **kwargs))))


def as_array(tensor: Tensor) -> Array:
    """A copy in numpy, which has no bfloat16."""
    tensor = tensor.detach().cpu()
    wide = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    array: Array = wide.numpy().copy()
    return array


def _oracle(wide: nn.Module, inputs: Inputs, eager: Sequence[Array]) -> tuple[Array | None, ...]:
    """Float outputs in float64; none where the module cannot run in it, or falls back to less."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # for tensors that forward makes itself
    try:
        with mock.patch.object(Tensor, "float", Tensor.double):
            found = run(wide, mapped(_widened, inputs))
    except Exception:  # a module that casts on its way
        found = ()
    finally:
        torch.set_default_dtype(before)
    return tuple(
        oracle if oracle is not None and oracle.shape == own.shape else None
        for oracle, own in itertools.zip_longest(found, eager)
        if own is not None
    )


def _widened(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor

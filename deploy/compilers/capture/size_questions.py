"""What forward asks of sizes on its way, where torch.export keeps the answer and no file has it.

Of one size torch compares the answers with the range that was declared. What is asked of several at
once, ``x.numel() > 100_000``, or of one with a step, it writes into a check beside the program, and
what is asked while derivatives are recorded, nowhere (2.13).
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import sympy
import torch
from torch.utils import _pytree as pytree

from edgeport.deploy.sources.running import as_tensors, run_module
from edgeport.deploy.sources.samples import elements_of, inputs_at, usual_sizes
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import Range
from edgeport.runtimes.inputs import Array

from .harmless import is_close
from .special_sizes import MODULES

_SIZES: Final = (2, 3, 4, 5, 7, 8, 12, 16, 31, 64, 100, 1000, 2**14, 2**20)
"""That are tried; 0 and 1 are tried by the proof."""
_FEW: Final = (2, 3, 7, 64, 2**14)
_MOST_TOGETHER: Final = 3
_MOST_OF_FEW: Final = 5
"""Sizes in one question; of more, the least and the largest are tried."""


class AskedSizeError(ValueError):
    """A branch was taken that other sizes do not take."""


def require_one_answer(source: Source, inputs: Sequence[torch.Tensor], *, least: int = 2) -> None:
    """See that what was asked has the same answer for all sizes, as far as some can tell.

    Args:
        source: What was followed.
        inputs: The tensors that it was followed with.
        least: Of how many sizes together: of fewer it is known.

    Raises:
        AskedSizeError: It has not.
    """
    names = dict(_named(source, inputs))
    env = next((size.node.shape_env for size, _ in _sizes(source, inputs)), None)
    asked = [] if env is None else [env.replace(guard.expr) for guard in env.guards]
    for question in asked:
        symbols = sorted(question.free_symbols, key=str)
        if not names.keys() >= {*symbols}:
            continue
        ranges = [source.signature.range_of(names[each]) for each in symbols]
        is_new = len(symbols) >= least or any(range_.step > 1 for range_ in ranges)
        if is_new and not _holds(question, symbols, ranges):
            named = {
                each: sympy.Symbol(names[each]) / range_.step
                for each, range_ in zip(symbols, ranges, strict=True)
            }
            told = question.xreplace(named)
            raise AskedSizeError(f"{told} is asked, which not all sizes answer alike")


def require_alike(
    source: Source,
    program: torch.export.ExportedProgram,
    question: sympy.Basic,
    names: Mapping[Any, str],
) -> None:
    """See that a program is right at sizes that answer otherwise, of which samples have few.

    Args:
        source: What was captured.
        program: With one way alone.
        question: What was answered, whatever the sizes are.
        names: The dimensions that it is asked of.

    Raises:
        AskedSizeError: It is not.
    """
    ranges = {each: source.signature.range_of(name) for each, name in names.items()}
    tried = _SIZES if len(ranges) < _MOST_TOGETHER else _FEW
    allowed = [[n * each.step for n in _allowed(each, tried)] for each in ranges.values()]
    usual = usual_sizes(source.signature)
    followed = question.xreplace({each: sympy.Integer(usual[names[each]]) for each in names})
    module = program.module(check_guards=False)
    module._forward_pre_hooks.clear()  # it compares sizes
    for number, sizes in enumerate(itertools.product(*allowed)):
        at = dict(zip(names, map(sympy.Integer, sizes), strict=True))
        whole = usual | {names[each]: int(size) for each, size in at.items()}
        if question.xreplace(at) == followed or elements_of(source.signature, whole) > _LARGEST:
            continue
        inputs = inputs_at(source.signature, whole, source.values, number)
        if not _is_right(source, module, inputs):
            told = question.xreplace({each: sympy.Symbol(name) for each, name in names.items()})
            raise AskedSizeError(f"{told} is asked, which not all sizes answer alike")


_LARGEST: Final = 2**20
"""Elements of what is tried there."""

_ROUNDED: Final = 2**11
"""Of the last digit: other kernels are chosen for other sizes."""


def _is_right(source: Source, module: torch.nn.Module, inputs: Mapping[str, Array]) -> bool:
    try:
        expected = run_module(source.flat, inputs)
    except Exception:  # the user's module may raise anything
        return True  # so may the program
    with contextlib.suppress(Exception), torch.no_grad():
        found = pytree.tree_leaves(module(*as_tensors(inputs)))
        pairs = zip(map(torch.as_tensor, expected), map(torch.as_tensor, found), strict=True)
        return all(is_close(*pair, _ROUNDED) for pair in pairs)
    return False


def _sizes(source: Source, inputs: Sequence[torch.Tensor]) -> Iterator[tuple[Any, str]]:
    """Free sizes, and what they are called."""
    for spec, tensor in zip(source.signature.inputs, inputs, strict=True):
        for size, name in zip(tensor.shape, spec.shape, strict=True):
            if isinstance(size, torch.SymInt):
                yield size, str(name)


def _named(source: Source, inputs: Sequence[torch.Tensor]) -> Iterator[tuple[Any, str]]:
    for size, name in _sizes(source, inputs):
        for symbol in size.node.expr.free_symbols:
            if name in source.signature.dimensions:
                yield symbol, name


def _holds(asked: Any, symbols: Sequence[Any], ranges: Sequence[Range]) -> bool:
    """Whether it does for all sizes that are tried; a symbol counts the steps of its range."""
    tried = _SIZES if len(symbols) <= _MOST_TOGETHER else _FEW
    allowed = [_allowed(range_, tried) for range_ in ranges]
    if len(symbols) > _MOST_OF_FEW:
        allowed = [[sizes[0], sizes[-1]] for sizes in allowed]
    try:
        answer = sympy.lambdify(symbols, asked, MODULES)
        return all(_is_so(answer, sizes) for sizes in itertools.product(*allowed))
    except Exception:  # what stands in it, lambdify does not know
        return True


def _is_so(answer: Callable[..., Any], sizes: Sequence[int]) -> bool:
    try:
        return bool(answer(*sizes))
    except (ArithmeticError, ValueError):  # so does forward: math.exp(1000), math.asin(2)
        return True


def _allowed(range_: Range, tried: Sequence[int]) -> list[int]:
    """Steps within a range, its ends among them; 1 where it has no others."""
    ends = [end // range_.step for end in (range_.min, range_.max) if end is not None]
    inner = [n for n in tried if n * range_.step in range_]
    return sorted({n for n in (*ends, *inner) if n > 1}) or [1]

"""Inputs as a person gives them: the example, and samples beside it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from edgeport.runtimes import SourceError, UsageError
from edgeport.runtimes.inputs import Array

from . import trees
from .arguments import check_takes_inputs, checked_tensor, constants_of, make_call
from .capture import Captured
from .flat import Call
from .source import numbered

Arguments: TypeAlias = Mapping[str, object] | Sequence[object] | torch.Tensor | Array
"""Of forward: by name, in order, or the only one; trees of tensors, arrays and constants."""

Example: TypeAlias = Arguments | Captured
"""Arguments, or those of captured calls."""


def calls_of(module: nn.Module, given: Example) -> list[tuple[Call, dict[str, Array]]]:
    """The calls of an example, each with its tensors by name.

    Raises:
        SourceError: They do not fit forward, or captured ones pass several constants.
    """
    if not isinstance(given, Captured):
        return [_bound(module, given)]
    calls = [_made(module, recorded.args, recorded.kwargs) for recorded in given.calls]
    (first, _), *others = calls
    for number, (call, _) in enumerate(others, 1):
        if (difference := _other_constant(module, first, call)) is not None:
            name, own, other = difference
            raise SourceError(
                f"{name!r} is {own!r} in calls[0], {other!r} in calls[{number}], and "
                "an artefact holds one constant",
                remedy="capture calls that pass the same; what changes from call to call is "
                "passed as a tensor",
            )
    return calls


def samples_of(
    module: nn.Module, call: Call, given: Iterable[Arguments], what: str, names: Sequence[str] = ()
) -> list[dict[str, Array]]:
    """Samples by the names of the inputs.

    Args:
        module: Whose they are.
        call: The example's.
        given: Each as an example is, or by the names of the inputs.
        what: They are, in errors: ``samples``.
        names: What to call each; numbers where nothing is said.

    Raises:
        UsageError: They are no list.
        SourceError: One fits no call like the example's.
    """
    is_one = isinstance(given, (Mapping, str, bytes, torch.Tensor, np.ndarray))
    if is_one or not isinstance(given, Iterable):
        raise UsageError(
            f"{what} is of type {type(given).__name__}, expected a list of samples",
            remedy=f"write {what}=[...]: each sample is given as the example is",
        )
    given = [*given]  # a generator gives them once
    called = numbered(what.removesuffix("s"), given, names)
    return [_sample(module, call, *pair) for pair in zip(given, called, strict=True)]


def _sample(module: nn.Module, call: Call, given: Arguments, called: str) -> dict[str, Array]:
    try:
        if isinstance(given, Mapping) and given.keys() <= {*call.names}:
            return {name: _array(name, value) for name, value in given.items()}
        own, arrays = _bound(module, given)
    except SourceError as e:
        raise SourceError(f"{called}: {e.problem}", remedy=e.remedy) from e
    if (difference := _other_constant(module, call, own)) is not None:
        name, first, other = difference
        raise SourceError(
            f"{called}: {name!r} is {other!r}, and {first!r} in the example, which the artefact "
            "holds as a constant",
            remedy="leave the sample out, or pass what changes as a tensor",
        )
    if isinstance(given, Mapping) or len(arrays) != len(call.names):
        return arrays
    return dict(zip(call.names, arrays.values(), strict=True))


def _bound(module: nn.Module, given: Arguments) -> tuple[Call, dict[str, Array]]:
    if isinstance(given, Mapping):
        return _made(module, (), given)
    if isinstance(given, Sequence) and not isinstance(given, str):
        return _made(module, given, {})
    return _made(module, [given], {})


def _made(
    module: nn.Module, args: Sequence[object], kwargs: Mapping[str, object]
) -> tuple[Call, dict[str, Array]]:
    call = make_call(module, args, kwargs)
    tensors = trees.tensors([call.args, dict(call.kwargs)])
    if not call.names:
        check_takes_inputs(module)
        raise SourceError("there is no example input", remedy="give a tensor for each input")
    return call, {name: _array(name, each) for name, each in zip(call.names, tensors, strict=True)}


def _array(name: str, given: Any) -> Any:
    return checked_tensor(name, given).numpy() if isinstance(given, torch.Tensor) else given


def _other_constant(module: nn.Module, one: Call, other: Call) -> tuple[str, object, object] | None:
    """The name of a constant that two calls pass otherwise, and what it is in each."""
    first = constants_of(module, one)
    for name, value in constants_of(module, other).items():
        if name in first and not _is_same(first[name], value):
            return name, first[name], value
    return None


def _is_same(one: object, other: object) -> bool:
    """Whether two constants are one: 1 and True are two, and NaN is itself."""
    alike = isinstance(one, bool) == isinstance(other, bool)
    return alike and (one == other or repr(one) == repr(other))

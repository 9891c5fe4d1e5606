"""What a person gives as arguments of forward, and the call that it makes."""

import difflib
import functools
import gc
import inspect
import io
import logging
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from edgeport.runtimes import SourceError

from . import trees
from .flat import Call
from .modules import check_module, unwrapped

_BY_KEYWORD: Final = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
_POSITIONAL: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
_NO_PARTS: Final = (
    nn.Module,
    np.random.Generator,
    type,
    types.FunctionType,
    functools._lru_cache_wrapper,
    types.ModuleType,
    logging.Logger,
)
"""Where tensors are no inputs, or from where all that a process has can be reached."""


def make_call(
    module: nn.Module, in_order: Sequence[object], arguments: Mapping[str, object]
) -> Call:
    """Bind arguments to forward.

    Args:
        module: Whose forward is called.
        in_order: Trees of tensors (or numpy arrays) and constants; they are named as forward's
            parameters.
        arguments: Trees by name. Names that are all forward's own are bound to those parameters;
            names that are all new are taken in order.

    Raises:
        SourceError: It is no module, or they do not fit forward, or no file can take them.
    """
    check_module(module)
    call = _call(signature_of(unwrapped(module)), in_order, arguments)
    for leaf in trees.others([call.args, dict(call.kwargs)]):
        _check_leaf(leaf)
    return call


def check_takes_inputs(module: nn.Module) -> None:
    """Refuse a module whose result is a constant.

    Raises:
        SourceError: Its forward takes nothing.
    """
    if not signature_of(unwrapped(module)).parameters:
        raise SourceError(
            "forward takes no input: what it returns is a constant",
            remedy="save that, as with numpy.save, or give forward an input",
        )


def _call(
    signature: inspect.Signature, in_order: Sequence[object], arguments: Mapping[str, object]
) -> Call:
    in_order = [trees.with_tensors(tree) for tree in in_order]
    arguments = {name: trees.with_tensors(tree) for name, tree in arguments.items()}
    if in_order:
        first = _with_names(signature, in_order)
        return Call.of({**first, **arguments}, by_position=len(first))
    known = any(name in signature.parameters for name in arguments)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    if known or takes_any:
        if not takes_any:
            _check_known(signature, list(arguments))
        return _by_name(signature, arguments)
    return Call.of(arguments, by_position=len(arguments))


def _check_leaf(leaf: object) -> None:
    """Refuse what is no constant: it would be one in every file, and nobody would be told."""
    held = f"an argument of forward holds a value of type {type(leaf).__name__}"
    if isinstance(leaf, Iterator) and not _takes_only(leaf):
        raise SourceError(
            f"{held}, which gives what is in it only once", remedy="pass a list or a tuple of it"
        )
    if _holds_tensors(leaf):
        raise SourceError(
            f"{held}, whose tensors would be constants in every file",
            remedy="pass its tensors, alone or in a tuple, list, dict or dataclass, or register "
            "its class with torch.utils._pytree (a cache of transformers: "
            "register_dynamic_cache_export_support); what is to stay as it is belongs in the "
            "module, as a buffer",
        )


def _takes_only(leaf: object) -> bool:
    """Whether it is a stream to write to, as ``sys.stderr``."""
    return isinstance(leaf, io.IOBase) and not leaf.closed and not leaf.readable()


def _holds_tensors(leaf: object) -> bool:
    """Whether a tensor or an array of numbers can be reached from an object, modules aside."""
    seen: dict[int, object] = {}
    rest = [leaf]
    while rest:
        each = rest.pop()
        if isinstance(each, torch.Tensor) or (
            isinstance(each, np.ndarray) and each.dtype.kind not in "OSU"
        ):
            return True
        if id(each) in seen or isinstance(each, _NO_PARTS):
            continue
        seen[id(each)] = each
        rest += gc.get_referents(each)
    return False


def signature_of(module: nn.Module) -> inspect.Signature:
    """Of forward; of scripted code it is in the schema, where ``inspect`` does not look."""
    if not isinstance(module, torch.jit.ScriptModule):
        return inspect.signature(module.forward)
    forward: Any = module.forward
    parameters = [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY
            if each.kwarg_only
            else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=each.default_value if each.has_default_value() else inspect.Parameter.empty,
        )
        for each in forward.schema.arguments[1:]  # behind self
    ]
    return inspect.Signature(parameters)


def _with_names(signature: inspect.Signature, arguments: Sequence[object]) -> dict[str, object]:
    names = []
    for parameter in signature.parameters.values():
        if parameter.kind in _POSITIONAL:
            names.append(parameter.name)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            surplus = len(arguments) - len(names)
            names += [f"{parameter.name}_{index}" for index in range(surplus)]
    if len(names) < len(arguments):
        raise SourceError(
            f"{len(arguments)} example inputs for forward({', '.join(names)})",
            remedy="pass one for each parameter, in this order; parts of one go in a tuple or dict",
        )
    return dict(zip(names, arguments, strict=False))


def _check_known(signature: inspect.Signature, names: list[str]) -> None:
    takes = list(signature.parameters)
    unknown = [name for name in names if name not in takes]
    if unknown:
        raise SourceError(
            f"forward({', '.join(takes)}) has no parameter {unknown[0]!r}",
            remedy=_renamed(unknown[0], takes),
        )


def _renamed(name: str, takes: Sequence[str]) -> str:
    whole, _, part = name.rpartition("_")
    if whole in takes and part.isdecimal():  # the artefact's name for it
        return f"a part goes by its path: rename it to '{whole}.{part}'"
    close = difflib.get_close_matches(name, takes, n=1)
    return f"rename it to {close[0]!r}" if close else f"its parameters are {', '.join(takes)}"


def _by_name(signature: inspect.Signature, arguments: Mapping[str, object]) -> Call:
    """In the order of forward; by position up to the first that is left out, then by keyword."""
    ordered: dict[str, object] = {}
    by_position, gap = 0, False
    for name, parameter in signature.parameters.items():
        value = arguments.get(name)
        if parameter.kind is parameter.VAR_POSITIONAL and isinstance(value, tuple | list):
            found = {f"{name}_{index}": part for index, part in enumerate(value)}
        else:
            found = {name: value} if name in arguments else {}
        gap = gap or not found or parameter.kind in _BY_KEYWORD
        by_position += 0 if gap else len(found)
        ordered |= found
    taken = {name for name in arguments if name in signature.parameters}
    return Call.of(ordered | {n: v for n, v in arguments.items() if n not in taken}, by_position)


def constants_of(module: nn.Module, call: Call) -> dict[str, object]:
    """The constants that forward gets, defaults too, by the names of its parameters."""
    try:
        bound = signature_of(unwrapped(module)).bind(*call.args, **call.kwargs)
    except TypeError:  # a decorated forward may take more than it says
        return dict(trees.constants([call.args, dict(call.kwargs)], ""))
    bound.apply_defaults()
    return dict(trees.constants(bound.arguments, ""))


def misfit_of(module: nn.Module, call: Call) -> str | None:
    """Why forward cannot be called with these; ``None`` if it can.

    To explain a call that failed, and not before: a decorated forward may take more than it says.
    """
    signature = signature_of(unwrapped(module))
    try:
        signature.bind(*call.args, **call.kwargs)
    except TypeError as e:
        parts = (inspect.Parameter(p.name, p.kind) for p in signature.parameters.values())
        names = ", ".join(map(str, parts))  # with their stars
        return f"forward({names}) cannot be called with these: {e}"
    return None


def checked_tensor(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """An example input in a dtype that numpy has, on the CPU.

    Raises:
        SourceError: It has no values, or its dtype cannot be passed to an engine.
    """
    if tensor.is_meta:
        raise SourceError(
            f"{name!r} has no values, being on the device meta", remedy="pass a tensor with values"
        )
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.float()
    if tensor.is_complex() or tensor.is_quantized or tensor.is_sparse:
        raise SourceError(
            f"input {name!r} is {_kind(tensor)}, which engines cannot pass",
            remedy="pass the real and the imaginary part (torch.view_as_real), and join them in "
            "forward"
            if tensor.is_complex()
            else "pass a dense tensor of floats, integers or bools",
        )
    return tensor


def _kind(tensor: torch.Tensor) -> str:
    return "sparse" if tensor.is_sparse else str(tensor.dtype).removeprefix("torch.")

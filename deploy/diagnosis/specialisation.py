"""Which line fixes a dimension that was declared free: torch.export tells the dimension only.

Forward is run once more on fake tensors, which have sizes but no values, with the same free
dimensions; the line that runs when a size turns from a symbol into a number is the one. Where none
does, it is the first line that asks for the rest of such a size, else the first that asks anything
of one size that not all of the declared ones answer alike.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, Final
from unittest import mock

import torch
from torch import nn
from torch._dispatch.python import enable_python_dispatcher
from torch.nn.modules.module import register_module_forward_pre_hook

from .places import Map, Place, chain, frames_of, stack

_ENTRIES: Final = ("torch.onnx", "torch.export")
"""Modules whose ``export`` has the request in its frame, the most readable one first."""

_TRIED_SIZES: Final = 64


def fixing_place(error: BaseException, module: nn.Module, layers: Map) -> Place:
    """Find the layer and the line that fix a dimension; an empty place if they can't be found."""
    from edgeport.deploy.compilers.capture.program import ready  # which asks for diagnoses itself
    from edgeport.deploy.compilers.upstream import inference_only

    request = _request(error)
    found: list[Place] = []
    rests: list[Place] = []
    recurrent: list[Place] = []  # these unroll over time, out of sight of Python
    asked: list[Place] = []
    watched = _watched(layers, found, rests, recurrent, asked)
    if request is not None:
        with contextlib.suppress(Exception), inference_only(), ready(), watched:
            _run_on_fakes(module, *request)
    return next((place for place in [*found, *rests, *recurrent, *asked] if place.line), Place())


def dimension_names(error: BaseException) -> dict[tuple[int, int], str]:
    """Input number and axis -> the name under which it was declared free."""
    request = _request(error)
    if request is None:
        return {}
    shapes: Any = request[2]
    per_input = shapes.values() if isinstance(shapes, Mapping) else shapes
    if len(per_input) == 1 and isinstance(shapes, Sequence) and isinstance(shapes[0], tuple | list):
        per_input = shapes[0]  # of forward(*inputs)
    return {
        (number, axis): getattr(size, "__name__", str(size))
        for number, axes in enumerate(per_input)
        if isinstance(axes, Mapping)
        for axis, size in axes.items()
    }


def _request(error: BaseException) -> tuple[tuple[Any, ...], dict[str, Any], Any] | None:
    entries = {
        frame.f_globals.get("__name__"): frame.f_locals
        for one in chain(error)
        for frame, _ in frames_of(one)
        if frame.f_code.co_name == "export"
    }
    for name in _ENTRIES:
        values = entries.get(name, {})
        if values.get("dynamic_shapes") is not None and isinstance(values.get("args"), tuple):
            return values["args"], dict(values.get("kwargs") or {}), values["dynamic_shapes"]
    return None


@contextlib.contextmanager
def _watched(
    layers: Map,
    found: list[Place],
    rests: list[Place],
    recurrent: list[Place],
    asked: list[Place],
) -> Iterator[None]:
    from torch.fx.experimental.symbolic_shapes import ShapeEnv  # loads sympy
    from torch.utils._sympy.functions import Mod, PythonMod

    original = ShapeEnv._set_replacement
    evaluate = ShapeEnv.evaluate_expr

    def watch(self: ShapeEnv, symbol: Any, target: Any, reason: str) -> None:
        if target.is_number:
            found.append(layers.in_frames(stack()))
        original(self, symbol, target, reason)

    def ask(self: ShapeEnv, question: Any, *args: Any, **options: Any) -> Any:
        before, ranges = len(self.guards), dict(self.var_to_range)  # an answer narrows them
        answer = evaluate(self, question, *args, **options)
        if len(self.guards) > before:
            divisions = [rest.args for rest in question.atoms(Mod, PythonMod)]
            if any(size.is_Symbol and step.is_number for size, step in divisions):
                rests.append(layers.in_frames(stack()))
            elif _divides(question, ranges):
                asked.append(layers.in_frames(stack()))
        return answer

    def on_call(layer: nn.Module, inputs: object) -> None:
        if isinstance(layer, nn.RNNBase):
            recurrent.append(layers.in_frames(stack()))

    hook = register_module_forward_pre_hook(on_call)
    try:
        with (
            mock.patch.object(ShapeEnv, "_set_replacement", watch),
            mock.patch.object(ShapeEnv, "evaluate_expr", ask),
        ):
            yield
    finally:
        hook.remove()


def _divides(question: Any, ranges: Mapping[Any, Any]) -> bool:
    """Whether some of the declared sizes answer otherwise; torch keeps what it cannot solve."""
    if len(question.free_symbols) != 1:
        return False
    (size,) = question.free_symbols
    least = int(ranges[size].lower)
    most = int(min(ranges[size].upper, least + _TRIED_SIZES))
    return len({question.subs(size, number) for number in range(least, most + 1)}) > 1


def _run_on_fakes(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any
) -> None:
    # private: the one place where torch makes fake tensors of a request; it loads dynamo
    make: Any = import_module("torch._export.non_strict_utils").make_fake_inputs
    mode, fake_args, fake_kwargs, *_ = make(module, args, kwargs, _hints(shapes))
    mode.allow_non_fake_inputs = True  # tensors that are no parameters
    state = dict(itertools.chain(module.named_parameters(), module.named_buffers()))
    fake_state: dict[str, torch.Tensor] = {
        name: mode.from_tensor(tensor, static_shapes=True) for name, tensor in state.items()
    }
    with mode, enable_python_dispatcher():  # without: kernels that ask for a plain size
        torch.func.functional_call(module, fake_state, fake_args, fake_kwargs)


def _hints(shapes: Any) -> Any:
    """The request with plain names replaced by what torch.export takes."""
    if isinstance(shapes, str):
        return torch.export.Dim.DYNAMIC
    if isinstance(shapes, Mapping):
        return {key: _hints(value) for key, value in shapes.items()}
    if isinstance(shapes, tuple | list):
        return type(shapes)(_hints(value) for value in shapes)
    return shapes

"""A program of torch.export, of a module with its free dimensions."""

import contextlib
import itertools
import traceback
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from typing import Any, Final
from unittest import mock

import torch
from torch._dispatch.python import enable_python_dispatcher

from edgeport.deploy.compilers.operators import (
    adaptive_pools,
    checks,
    comparisons,
    composites,
    conversions,
    copies,
    derivatives,
    experts,
    fake_quantisation,
    fallbacks,
    free_sizes,
    losses,
    moved_modules,
    number_functions,
    packed,
    pooling,
    quotients,
    spectra,
)
from edgeport.deploy.compilers.upstream import quick_passes
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import Range

from . import of_python, texts
from .known_values import with_known_values


@contextlib.contextmanager
def free_kernels() -> Iterator[None]:
    """Recurrent layers are not unrolled, what torch takes apart fixes no size; passes are quick."""
    from edgeport.deploy.compilers.operators import recurrent  # loads dynamo

    with quick_passes(), recurrent.free_time(), composites.known():
        yield


def free_writes() -> contextlib.AbstractContextManager[object]:
    """Writes into slices do not ask which sizes are 1."""
    return mock.patch.object(torch, "_debug_has_internal_overlap", _no_overlap)


def capture(source: Source, *, strict: bool = False) -> torch.export.ExportedProgram:
    """Capture a module with its free dimensions.

    Raises:
        Exception: Whatever torch.export raises.
    """
    try:
        return _without_vmap(_captured(source, strict=strict))
    except Exception as e:  # torch.export raises a dozen kinds
        if strict or not isinstance(source.module, torch.jit.ScriptModule):
            raise
        return _converted(source, e)


def _captured(source: Source, *, strict: bool) -> torch.export.ExportedProgram:
    with ready():
        read = partial(exported, source, source.flat, strict=True)
        plain = read if strict else partial(_ran, source)
        try:
            with mock.patch.object(torch.autograd, "_engine_run_backward", _refuse_to_pull_back):
                return plain()
        except quotients.LostSizeError as e:
            with contextlib.suppress(Exception):  # else the first one, which has the user's line
                return read()
            lost: type[Exception] = Exception
            if str(e) == "len() of a free size":  # else what then fails is told
                lost = quotients.LostSizeError
            with contextlib.suppress(lost):
                return conversions.kept(e, plain)
            raise e from None
        except Exception as e:  # torch.export raises a dozen kinds
            if not _takes_derivatives(e):
                raise
        return exported(source, _recorded(source), strict=strict)


def _ran(source: Source) -> torch.export.ExportedProgram:
    with number_functions.known(), checks.known(), fallbacks.known(), of_python.known():
        return with_known_values(source.flat, partial(exported, source, source.flat))


def _without_vmap(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Operators on the whole batch: what opens and closes a ``vmap`` has no place in a file.

    Nothing uses it either, so that it is dropped with dead code, and what is in it is lost.
    """
    if not any(map(_opens_vmap, program.graph.nodes)):
        return program
    with free_kernels():
        apart: torch.export.ExportedProgram = program.run_decompositions({})
        return apart


def _opens_vmap(node: torch.fx.Node) -> bool:
    return getattr(node.target, "__module__", None) == "torch._functorch.predispatch"


def _converted(source: Source, error: Exception) -> torch.export.ExportedProgram:
    """What a script says: running it fixes each size that it takes for a number.

    Raises:
        Exception: The error, if its code cannot be converted.
    """
    from edgeport.deploy.compilers.scripted.converter import convert  # loads dynamo

    with contextlib.suppress(Exception):  # torch.jit and torch.export raise anything
        return convert(source)
    raise error


def record(source: Source) -> torch.nn.Module | None:
    """What ``capture`` falls back on where it may take no derivatives; ``None`` if that fails."""
    with ready(), contextlib.suppress(Exception):  # the user's code raises anything
        return _Recorded(source)
    return None


def _recorded(source: Source) -> torch.nn.Module:
    try:
        return _Recorded(source)
    except RuntimeError:
        if source.recorded is None:
            raise
        return source.recorded


@contextlib.contextmanager
def ready() -> Iterator[None]:
    """What torch does not know by itself is known, or mended."""
    with (
        free_kernels(),
        quotients.known(),
        fake_quantisation.known(),
        experts.known(),
        contextlib.ExitStack() as stack,
        free_writes(),
    ):
        for owner, name, function in _WHILE_CAPTURED:
            stack.enter_context(mock.patch.object(owner, name, function, create=True))
        yield


_WHILE_CAPTURED: Final = (
    *free_sizes.WHILE_CAPTURED,
    *losses.WHILE_CAPTURED,
    *moved_modules.WHILE_CAPTURED,
    *adaptive_pools.WHILE_CAPTURED,
    *packed.WHILE_CAPTURED,
    *pooling.WHILE_CAPTURED,
    *spectra.WHILE_CAPTURED,
    *comparisons.WHILE_CAPTURED,
    *copies.WHILE_CAPTURED,
    *derivatives.WHILE_CAPTURED,
    *texts.WHILE_CAPTURED,
)


def exported(
    source: Source,
    module: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...] | None = None,
    *,
    strict: bool = False,
) -> torch.export.ExportedProgram:
    """Capture once, by one way, while all is ``ready``.

    Args:
        source: Whose module it is.
        module: What is captured.
        inputs: What it is run on; ``None`` for the example.
        strict: Whether its bytecode is read.

    Raises:
        Exception: Whatever torch.export raises.
    """
    alike = module.register_forward_pre_hook(partial(_check_alike, source))
    for weight in module.parameters():
        _as_parameter(weight)
    try:
        with of_python.read() if strict else contextlib.nullcontext():
            program = torch.export.export(
                module,
                source.roomy_tensors() if inputs is None else inputs,
                dynamic_shapes=(dynamic_shapes(source),),
                strict=strict,
            )
    finally:
        alike.remove()
    check_questions(source, program)
    experts.of_torch(program)
    return program


def check_questions(source: Source, program: torch.export.ExportedProgram) -> None:
    """Ask of what was captured whether each question that no file has holds for all sizes.

    Raises:
        AskedSizeError: One does not.
    """
    from .size_questions import require_one_answer  # loads sympy

    given = program.graph_signature.user_inputs
    placed = {node.name: node.meta["val"] for node in program.graph.nodes if node.name in given}
    require_one_answer(source, [placed[name] for name in given])


def _as_parameter(weight: Any) -> None:
    """Weights of a copied or loaded script are tensors alone, which torch refuses (2.13)."""
    if not isinstance(weight, torch.nn.Parameter):
        weight._is_param = True  # what torch asks of an instance


def _check_alike(source: Source, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    """One dimension of two inputs is one size: torch compares them only in the end (2.13)."""
    first: dict[str, Any] = {}
    for spec, tensor in zip(source.signature.inputs, inputs, strict=True):
        for axis, name in enumerate(spec.shape):
            if isinstance(name, str):
                size = first.setdefault(name, tensor.shape[axis])
                _check(size == tensor.shape[axis])


_check: Final[Any] = torch._check  # it has no types


def _takes_derivatives(error: Exception) -> bool:
    """Whether it was raised within ``torch.func.grad`` and the like, in forward."""
    if "functorch tensor" in str(error) or _PULLS_BACK in str(error):  # raised anew, without frames
        return True
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_globals.get("__name__") == _DERIVATIVES for frame in frames)


_PULLS_BACK: Final = "forward takes derivatives by torch.autograd"


def _refuse_to_pull_back(*_: Any, **__: Any) -> Any:
    """What is followed has no derivatives of its own: see ``_Recorded``."""
    raise RuntimeError(_PULLS_BACK)


_DERIVATIVES: Final = "torch._functorch.eager_transforms"


class _Recorded(torch.nn.Module):
    """What a module did on symbols, in operators: derivatives have become some of them."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        from torch.fx.experimental.proxy_tensor import make_fx  # loads sympy

        from .size_questions import require_one_answer

        # private: the one place where torch makes fake tensors of a request
        fakes: Any = import_module("torch._export.non_strict_utils").make_fake_inputs
        shapes = (dynamic_shapes(source),)
        mode, inputs, *_ = fakes(source.flat, source.roomy_tensors(), {}, shapes)
        _check_alike(source, source.flat, inputs)
        with mode, enable_python_dispatcher():  # without: kernels that ask for a plain size
            self.module = make_fx(source.flat)(*inputs)
        require_one_answer(source, inputs, least=1)

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.module(*inputs)


def _no_overlap(tensor: torch.Tensor) -> int:
    """What a write into a slice, ``y[:, 1:] = x``, asks: eager would have raised.

    torch's own answer compares strides, so that a slice of one element is refused (2.13).
    """
    return 0


def dynamic_shapes(source: Source) -> tuple[dict[int, Any], ...]:
    """The free axes of each input, with the ranges that were declared."""
    signature = source.signature
    dims = {name: symbol(name, signature.range_of(name)) for name in signature.dimensions}
    unused = (each for n in itertools.count() if (each := f"sum_{n}") not in signature.dimensions)
    for name, follows in signature.sums.items():
        if len(follows.factors) == 1:
            ((free, factor),) = follows.factors.items()
            dims[name] = factor * dims[free] + follows.constant
        else:  # torch.export finds the sum by itself
            dims[name] = symbol(next(unused), signature.range_of(name))
    return tuple(
        {axis: dims[size] for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in source.signature.inputs
    )


def symbol(name: str, range_: Range) -> Any:
    """A free dimension for torch.export; one with a step is that many times another."""
    step = range_.step
    most = None if range_.max is None else range_.max // step
    if most == 2:  # of 1 and 2, torch drops the 1 as special, and fixes the 2
        most = 3
    dim = torch.export.Dim(name, min=range_.min // step, max=most)
    return dim if step == 1 else step * dim

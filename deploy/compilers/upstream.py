"""What compilers need to be told: to be quiet, and that nothing here is trained."""

import contextlib
import ctypes
import functools
import gc
import inspect
import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

import torch
from torch._ops import OperatorBase
from torch.autograd.function import _SingleLevelFunction
from torch.distributions import Distribution
from torch.nn.modules import transformer


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence a compiler: its warnings, its logs, its prints.

    They are no sign of anything: right traces warn, wrong ones are silent, and the exporters log
    pages before they raise. Parity is asked instead. The module's own warnings were heard when
    the reference ran.
    """
    disabled = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)


@contextlib.contextmanager
def quick_passes() -> Iterator[None]:
    """Let a pass over a program of torch.export begin in a third of the time.

    In each pass torch (2.13) asks C++ for each of 27 namespaces which operators it has, and
    registers 11,500 kernels by a function that makes a type each time.
    """
    utils = import_module("torch._export.utils")  # loads the exporter
    once = functools.cache(utils._materialize_cpp_cia_ops)
    with (
        mock.patch.object(utils, "_materialize_cpp_cia_ops", once),
        mock.patch.object(OperatorBase, "py_impl", _registers),
    ):
        yield


_own_py_impl: Final = OperatorBase.py_impl


def _registers(operator: OperatorBase, key: Any) -> Callable[[Any], Any]:
    if not isinstance(key, torch.DispatchKey) or key in operator.py_kernels:
        return _own_py_impl(operator, key)

    def register(kernel: Any) -> Any:
        operator.py_kernels[key] = kernel
        operator._dispatch_cache.clear()
        return kernel

    return register


@contextlib.contextmanager
def properties_may_raise() -> Iterator[None]:
    """Let torch.jit pass over properties that raise, as a LightningModule's trainer outside of one.

    It reads each attribute of each module before it compiles anything (2.13).
    """
    internal, recursive = map(import_module, ("torch._jit_internal", "torch.jit._recursive"))
    ignored, has_exports = recursive.jit_ignored_properties, internal.module_has_exports

    def exports(module: Any) -> bool:
        names = {*dir(module)} - _raising(module)
        given = {name: getattr(module, name) for name in names if hasattr(module, name)}
        return bool(has_exports(SimpleNamespace(**given)))

    with (
        mock.patch.object(
            recursive, "jit_ignored_properties", lambda module: ignored(module) | _raising(module)
        ),
        mock.patch.object(internal, "module_has_exports", exports),
    ):
        yield


def _raising(module: Any) -> set[str]:
    """Properties, of base classes too, that raise anything but an AttributeError."""
    found = set()
    for name, value in inspect.getmembers_static(type(module)):
        if isinstance(value, property):
            try:
                getattr(module, name, None)
            except Exception:  # the user's code raises anything
                found.add(name)
    return found


@contextlib.contextmanager
def inference_only() -> Iterator[None]:
    """Take what only training, or one engine, has out of a module's way while it is compiled.

    A custom autograd function is called by its forward: no format can hold its backward, and
    ``apply`` hides its forward from a trace. Compiled parts run eagerly. Attention takes its
    documented path, not a fused kernel that no format has, and whose answers on a GPU were 135 to
    219 noise floors away (a script is told that it may, whatever was set); ``nn.Transformer`` does
    not look at its mask to see whether it is causal, which is a hint beside the mask. A
    distribution does not look at its arguments to see whether they are valid. ``x.data`` is ``x``:
    without gradients they are one, and whoever follows ``x`` loses it there. ``x.shape.numel()``
    multiplies sizes.
    """
    apply = vars(torch.autograd.Function)["apply"]
    fast = torch.backends.mha.get_fastpath_enabled
    detect = transformer._detect_is_causal_mask
    validate = Distribution._validate_args
    try:
        Distribution.set_default_validate_args(False)
        torch.backends.mha.get_fastpath_enabled = _no_fast_path
        transformer._detect_is_causal_mask = _is_causal
        torch.autograd.Function.apply = classmethod(_forward_of)  # type: ignore[assignment]
        with (
            torch.no_grad(),
            _multiplied_sizes(),
            torch.compiler.set_stance("force_eager"),
            mock.patch.object(torch.Tensor, "data", _DATA, create=True),
            mock.patch.object(_SingleLevelFunction, "apply", _CALL, create=True),
        ):
            yield
    finally:
        torch.autograd.Function.apply = apply  # type: ignore[method-assign]
        torch.backends.mha.get_fastpath_enabled = fast
        transformer._detect_is_causal_mask = detect
        Distribution.set_default_validate_args(validate)


@contextlib.contextmanager
def _multiplied_sizes() -> Iterator[None]:
    """``numel`` of a shape, which makes a number of free and of traced sizes in C (2.13).

    The methods of a type that is written in C are found in its dictionary alone.
    """
    methods: dict[str, Any] = gc.get_referents(vars(torch.Size))[0]
    own = methods["numel"]

    def put(method: Callable[..., Any]) -> None:
        methods["numel"] = method
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(torch.Size))  # what was looked up before

    try:
        put(_product)
        yield
    finally:
        put(own)


def _product(shape: torch.Size) -> int:
    return math.prod(shape)


def _data(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach() if isinstance(tensor, torch.nn.Parameter) else tensor


_DATA: Final[Any] = property(_data, vars(torch._C.TensorBase)["data"].__set__)


def _no_fast_path() -> bool:
    """What a script compiles in place of torch's own, which is True for scripts."""
    return False


def _is_causal(
    mask: torch.Tensor | None, is_causal: bool | None = None, size: int | None = None
) -> bool:
    return is_causal is True


class _Context(torch.autograd.function.FunctionCtx):
    """What forward may write to, and nobody reads."""

    needs_input_grad: tuple[bool, ...] = ()


def _forward_of(function: Any, *args: Any) -> Any:
    if function.setup_context is not torch.autograd.Function.setup_context:
        return function.forward(*args)  # the newer style, whose forward takes no context
    context = _Context()
    context.needs_input_grad = (False,) * len(args)
    return function.forward(context, *args)


_CALL: Final[Any] = classmethod(_forward_of)
"""Where ``apply`` itself looks: ``swish = Swish.apply`` was looked up before."""


def cause(error: BaseException) -> str:
    """The first line of the innermost cause: compilers wrap it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

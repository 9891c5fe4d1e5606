"""The oracle: a module run in float64, whatever dtypes its code asks for.

Two modes do it. One sees what the user's code asks torch for: there a tensor of float64 says that
it is of the module's own dtype, so that code that decides by dtypes decides as ever. The other
sees every operator, also those inside of scripted code and of torch's own Python, and widens what
goes in: constants, globals, what comes back from numpy. Random numbers with a seed, and floats
read as bits, are as eager has them.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from edgeport.deploy.compilers.operators.experts import GROUPED, grouped_product
from edgeport.deploy.sources.flat import Flat
from edgeport.deploy.sources.modules import copied
from edgeport.deploy.sources.running import as_tensors, run_on
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.libtorch.failures import last_line

_DTYPE: Final[Any] = torch.Tensor.dtype.__get__  # type: ignore[attr-defined]  # a descriptor
_VIEW: Final[Any] = torch.ops.aten.view.dtype


@dataclass(frozen=True, slots=True)
class Answer:
    """What the module answers in float64.

    Attributes:
        outputs: In order; ``None`` where there is no float64 answer.
        gap: Why there is none, in a sentence; ``None`` if nothing is missing.
    """

    outputs: tuple[Array | None, ...]
    gap: str | None = None


class Oracle:
    """A copy of a module that answers in float64.

    Attributes:
        flat: The copy.
    """

    def __init__(self, flat: Flat) -> None:
        module = copied(flat.module)
        self._own = _own_dtype(flat)
        with contextlib.suppress(RuntimeError):  # frozen parameters of inference mode
            module._apply(_widened)  # type: ignore[no-untyped-call]  # torch has no types here
        self.flat = Flat(module, flat.call, torch.float64)

    def answer(self, inputs: Mapping[str, Array], eager: Sequence[Array]) -> Answer:
        """Run it once.

        Args:
            inputs: By name.
            eager: What the module answers in its own precision.
        """
        operators = _Operators(self._own)
        try:
            found = self._run(inputs, operators)
        except Exception as e:
            gap = _refusal(operators.last or "forward", e)
            try:
                found = self._run(inputs)  # torch.cond takes no mode of ours
            except Exception:
                return Answer((None,) * len(eager), gap)
        outputs = tuple(map(_fitting, found, eager))
        return Answer(outputs, _gap(found, eager, outputs))

    @contextlib.contextmanager
    def in_float64(self) -> Iterator[None]:
        """Within it, ``flat`` answers in float64 whatever dtypes forward asks for."""
        with _without_autocast(), _Asked(self._own):
            yield

    def _run(
        self, inputs: Mapping[str, Array], operators: TorchDispatchMode | None = None
    ) -> list[Array]:
        # of a table with 3,000 columns, no mode need see each
        tensors = [_widened(tensor) for tensor in as_tensors(inputs)]
        with operators or contextlib.nullcontext(), self.in_float64():
            return run_on(self.flat, tensors)


def _own_dtype(flat: Flat) -> torch.dtype | None:
    """The dtype that a widened tensor claims to be of; none where float64 is in use already."""
    tensors = itertools.chain(flat.module.parameters(), flat.module.buffers())
    floats = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    floats += [dtype for dtype in flat.call.dtypes if dtype.is_floating_point]
    if torch.float64 in floats:
        return None
    return floats[0] if floats else torch.float32


def _fitting(found: Array, eager: Array) -> Array | None:
    fits = found.dtype == np.float64 and found.shape == eager.shape
    return found if fits and eager.dtype.kind == "f" else None


def _refusal(operator: str, error: Exception) -> str:
    """It goes into the bundle, where no file of this machine is named."""
    words = last_line(error)
    why = type(error).__name__ if "/" in words else f"{type(error).__name__}: {words}"
    return f"{operator} does not run in float64 ({why})"


def _gap(
    found: Sequence[Array], eager: Sequence[Array], outputs: Sequence[Array | None]
) -> str | None:
    for array, own, output in zip(found, eager, outputs, strict=True):
        if own.dtype.kind == "f" and output is None:
            if array.shape != own.shape:
                return f"in float64 the module answers {list(array.shape)}, not {list(own.shape)}"
            return f"the module answers {array.dtype} where it is run in float64"
    return None


@contextlib.contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def _without_autocast() -> Iterator[None]:
    """Blocks of autocast inside of forward change nothing."""
    enter = torch.autocast.__enter__

    def enter_disabled(autocast: torch.autocast) -> Any:
        autocast._enabled = False
        return enter(autocast)  # type: ignore[no-untyped-call]  # torch has no types here

    torch.autocast.__enter__ = enter_disabled  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.autocast.__enter__ = enter  # type: ignore[method-assign]


class _Asked(TorchFunctionMode):
    """What code asks for: every float dtype means float64, which says that it is ``own``."""

    def __init__(self, own: torch.dtype | None) -> None:
        super().__init__()
        self._own = own

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func == _DTYPE:
            dtype = func(*args)
            return self._own or dtype if dtype == torch.float64 else dtype
        if getattr(func, "__name__", "") in _RANDOM:
            return func(*args, **(kwargs or {}))  # in eager's dtype; its operator widens it
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") == "rms_norm" and self._own is not None:
            args, kwargs = _with_eps(*args, **kwargs)
        keep = _reads_bits(func, args, kwargs)
        wide = (args, kwargs) if keep else tree_map(_wide, (args, kwargs))
        with _default(torch.float64):  # only here: code may ask which it is
            return func(*wide[0], **wide[1])


_RANDOM: Final = frozenset(
    {"rand", "randn", "rand_like", "randn_like", "normal", "bernoulli", "normal_", "uniform_"}
)


def _with_eps(
    input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of ``rms_norm``: if none is given, torch adds the eps of what it computes in."""
    given = _EPS if eps is None else eps
    return (input, normalized_shape, weight, given), {}


_EPS: Final = torch.finfo(torch.float32).eps
"""torch 2.13 computes in float32 where its input is narrower."""
_EPS_OF_FLOAT64: Final = torch.finfo(torch.float64).eps
_ADD: Final[Any] = torch.ops.aten.add_.Scalar
"""What ``rms_norm`` does it with, in a script too; of code in Python it is ``add_.Tensor``."""


def _reads_bits(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    values = (*args, *kwargs.values())
    return func is torch.Tensor.view and any(isinstance(value, torch.dtype) for value in values)


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Every operator computes in float64.

    Attributes:
        last: The operator that ran last: the one that failed.
    """

    def __init__(self, own: torch.dtype | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._own = own
        self.last = ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.last = str(func).removesuffix(".default").replace(".", "::", 1)
        kwargs = kwargs or {}
        if func is _VIEW:
            return self._bits(*args)
        if func is GROUPED:
            return _grouped(*tree_map(_wide, args), **tree_map(_wide, kwargs))
        if func is _ADD and args[1] == _EPS_OF_FLOAT64 and self._own is not None:
            args = (args[0], _EPS)
        if torch.Tag.nondeterministic_seeded in func.tags and self._own is not None:
            return self._random(func, args, kwargs)
        written = [arg.alias_info is not None and arg.alias_info.is_write for arg in _schema(func)]
        args = tuple(
            arg if is_written else tree_map(_wide, arg)
            for arg, is_written in zip(args, written, strict=False)
        )
        names = {
            arg.name for arg, is_written in zip(_schema(func), written, strict=True) if is_written
        }
        kwargs = {k: v if k in names else tree_map(_wide, v) for k, v in kwargs.items()}
        with _default(torch.float64):
            found = func(*args, **kwargs)
        return found if any(written) else tree_map(_widened, found)

    def _bits(self, tensor: torch.Tensor, dtype: torch.dtype) -> Any:
        """Floats read as integers, or the reverse: as eager would."""
        if tensor.dtype == torch.float64 and self._own is not None:
            tensor = tensor.to(self._own)
        return _widened(_VIEW(tensor, dtype))

    def _random(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Draw what eager draws: another dtype takes other numbers from the generator."""
        if func._schema.name.endswith("_") and args[0].dtype == torch.float64:
            drawn = func(args[0].to(self._own), *args[1:], **kwargs)
            return args[0].copy_(drawn)
        narrow = tree_map(self._narrow, (args, kwargs))
        return tree_map(_widened, func(*narrow[0], **narrow[1]))

    def _narrow(self, value: Any) -> Any:
        is_wide = isinstance(value, torch.Tensor) and value.dtype == torch.float64
        return value.to(self._own) if is_wide else value


def _grouped(*args: Any, **kwargs: Any) -> Any:
    """Products by expert, which torch 2.13 has in float32 and narrower alone."""
    found = grouped_product(*args, **kwargs)
    return GROUPED(*args, **kwargs) if found is NotImplemented else found


def _schema(func: Any) -> Any:
    return func._schema.arguments


def _wide(value: Any) -> Any:
    """A dtype of floats, or a tensor of one, widened."""
    if isinstance(value, torch.dtype):
        return _WIDER.get(value, value)
    return _widened(value)


def _widened(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and (wider := _WIDER.get(value.dtype)) is not None:
        return value.to(wider)
    return value


_WIDER: Final = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex32: torch.complex128,
    torch.complex64: torch.complex128,
}

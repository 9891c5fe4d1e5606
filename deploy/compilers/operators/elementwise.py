"""Decompositions element by element, exact where the exporter rounds."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import Node

from . import free_numbers
from .fx_nodes import arguments, value_of
from .symbols import is_free

_aten: Any = torch.ops.aten  # operators are made on demand: no types


_LANCZOS: Final = (
    0.99999999999980993,
    676.5203681218851,
    -1259.1392167224028,
    771.32342877765313,
    -176.61502916214059,
    12.507343278686905,
    -0.13857109526572012,
    9.9843695780195716e-6,
    1.5056327351493116e-7,
)
"""Lanczos approximation of the gamma function, g = 7, n = 9: 15 digits in float64."""

_G: Final = 7.0


def logaddexp(x: Tensor, y: Tensor) -> Tensor:
    """The exporter takes exponentials of the values themselves, which overflow."""
    apart = torch.where(x == y, 0, (x - y).abs())  # equal infinities too
    rest: Tensor = log1p(torch.exp(-apart))
    return torch.maximum(x, y) + rest


def logaddexp2(x: Tensor, y: Tensor) -> Tensor:
    """The same to base 2."""
    apart = torch.where(x == y, 0, (x - y).abs())
    rest: Tensor = log1p(torch.exp(-apart * math.log(2))) / math.log(2)
    return torch.maximum(x, y) + rest


def subtracted(x: Tensor, number: Any, alpha: Any = 1) -> Any:
    """``1.0 - mask`` of whole numbers: torch makes ``sub(1.0, mask)``, which no exporter takes."""
    if x.is_floating_point() or x.is_complex() or not isinstance(number, float | torch.SymFloat):
        return NotImplemented
    return x.to(torch.get_default_dtype()) * -alpha + number


def steps(
    start: Any, end: Any, step: Any = 1, *, dtype: torch.dtype | None = None, **options: Any
) -> Any:
    """As ``aten.arange.start_step`` of fractions, which torch counts and multiplies in float64.

    ONNX Runtime counts in float32, and adds one step after the other (1.31.1).
    """
    dtype = dtype or torch.get_default_dtype()
    if not dtype.is_floating_point or not any(map(_is_fraction, (start, end, step))):
        return NotImplemented
    numbers = torch.arange(math.ceil((end - start) / step), **options)
    return (numbers.double() * step + start).to(dtype)


def steps_to(end: Any, **options: Any) -> Any:
    """The same from 0, one apart."""
    return steps(0, end, **options)


def has_fractions(node: Node) -> bool:
    """Whether a node that counts does so by fractions, from one or to one."""
    return any(_is_fraction(value_of(each)) for each in node.args)


def _is_fraction(number: Any) -> bool:
    return isinstance(number, torch.SymFloat) or number % 1 != 0


def hypot(x: Tensor, y: Tensor) -> Tensor:
    """The length of (x, y), by the larger one's: squares may overflow."""
    x, y = x.abs(), y.abs()
    large, small = torch.maximum(x, y), torch.minimum(x, y)
    scale = torch.where(large == 0, 1, large)
    length = large * torch.sqrt(1 + (small / scale).square())
    return torch.where(x.isinf() | y.isinf(), math.inf, length)


def signbit(x: Tensor) -> Tensor:
    """The exporter asks ``x < 0``, which -0.0 is not."""
    if not x.is_floating_point():
        return x < 0
    return (x < 0) | ((x == 0) & (1 / x < 0))


def copysign(x: Tensor, y: Tensor | float) -> Tensor:
    """The size of x with the sign of y, which may be -0.0."""
    x, y = _as_floats(x, y)
    return torch.where(signbit(y), -x.abs(), x.abs())


def atan2(y: Tensor, x: Tensor) -> Tensor:
    """The angle of (x, y). The exporter's is -pi where y is 0 and x negative, and knows no -0.0."""
    y, x = _as_floats(y, x)
    high, wide = y.abs(), x.abs()
    slope = torch.where(high == wide, (wide != 0).to(wide.dtype), high / wide)  # of infinities too
    angle = torch.where(signbit(x), math.pi - slope.atan(), slope.atan())
    return torch.where(signbit(y), -angle, angle)


def _as_floats(x: Tensor, y: Tensor | float) -> tuple[Tensor, Tensor]:
    """Both in the dtype of floats that torch takes them to."""
    dtype = torch.result_type(x, y)
    dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
    return x.to(dtype), y.to(dtype) if isinstance(y, Tensor) else torch.full((), y, dtype=dtype)


def log1p(x: Tensor) -> Any:
    """The exporter rounds 1 + x; this divides that rounding out (Kahan; Higham, 2002, 1.14.1)."""
    if not x.is_floating_point():
        return NotImplemented
    sum_ = 1 + x
    exact = (sum_ == 1) | (sum_ == math.inf)
    other = torch.where(exact, torch.full_like(x, 2), sum_)
    return torch.where(exact, x, other.log() * (x / (other - 1)))


def expm1(x: Tensor) -> Any:
    """The exporter subtracts what the exponential was rounded to; as ``log1p``."""
    if not x.is_floating_point():
        return NotImplemented
    power = x.exp()
    plain = (power == 1) | (x.abs() >= 1)  # far from 0 nothing cancels
    other = torch.where(plain, torch.full_like(x, 2), power)
    near = (other - 1) * (x / other.log())
    return torch.where(plain, torch.where(power == 1, x, power - 1), near)


def log_sigmoid(x: Tensor) -> Tensor:
    """The exporter takes the logarithm of a sigmoid, which underflows."""
    return x.clamp(max=0) - torch.log1p(torch.exp(-x.abs()))


def lgamma(x: Tensor) -> Tensor:
    """By reflection and Lanczos' approximation, in float64."""
    wide = x.double()
    pole = ((wide <= 0) & (wide == wide.floor())) | wide.isinf()
    wide = torch.where(pole, torch.ones_like(wide), wide)
    low = wide < 0.5
    z = torch.where(low, 1 - wide, wide) - 1
    series = torch.full_like(z, _LANCZOS[0])
    for n, coefficient in enumerate(_LANCZOS[1:], 1):
        series = series + coefficient / (z + n)
    base = z + _G + 0.5
    large = 0.5 * math.log(2 * math.pi) + (z + 0.5) * base.log() - base + torch.log(series)
    small = math.log(math.pi) - (math.pi * (wide - wide.round())).sin().abs().log() - large
    return torch.where(pole, math.inf, torch.where(low, small, large)).to(x.dtype)


def fmax(x: Tensor, y: Tensor) -> Any:
    """The larger one, and not the NaN."""
    return _without_nan(torch.maximum, x, y)


def fmin(x: Tensor, y: Tensor) -> Any:
    """The smaller one, and not the NaN."""
    return _without_nan(torch.minimum, x, y)


def _without_nan(extreme: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    return torch.where(y.isnan(), x, torch.where(x.isnan(), y, extreme(x, y)))


def divide(x: Tensor, y: Tensor | float, *, rounding_mode: str | None = None) -> Any:
    """Torch's exporter divides integers as float32, which is wrong above 2^24.

    Of floats it takes the floor of a quotient that is rounded: 1.0 // 0.1 is 9.
    """
    if rounding_mode is None or not isinstance(x, Tensor):  # but a size
        return NotImplemented
    if not (_is_integer(x) and _is_integer(y)):
        return _wide(_floor_of_quotient, x, y) if rounding_mode == "floor" else NotImplemented
    down = x // y
    if rounding_mode == "floor":
        return down
    inexact = (down * y != x) & ((x < 0) != (y < 0))
    return down + inexact.to(down.dtype)


def floor_divide(x: Tensor | float, y: Any) -> Any:
    """The same of floats; of integers the exporter's is right, but of a number, ``7 // x``."""
    if not isinstance(x, Tensor):
        return free_numbers.beside(y, x) // y
    return (
        NotImplemented if _is_integer(x) and _is_integer(y) else divide(x, y, rounding_mode="floor")
    )


def _floor_of_quotient(x: Tensor, y: Tensor) -> Tensor:
    """As torch: ``div_floor_floating_vec`` of its BinaryOpsKernel.cpp."""
    rest = torch.fmod(x, y)
    multiple = torch.where((x / y).isinf() & ~x.isinf(), x, x - rest)
    whole = multiple / y - _crosses(rest, y).to(x.dtype)
    down = whole.floor()
    down = torch.where(whole - down > 0.5, down + 1, down)
    down = torch.where(whole == 0, copysign(torch.zeros_like(whole), x / y), down)
    return torch.where(y == 0, x / y, down)


def _crosses(rest: Tensor, y: Tensor) -> Tensor:
    """Where a rest has not the sign of the divisor."""
    return (rest != 0) & ((rest < 0) != (y < 0))


def remainder(x: Tensor, y: Tensor | float) -> Any:
    """The exporter subtracts a rounded product: 1.7e9 % 3600 is 800, and not 768."""
    if is_free(y):
        return x.remainder(free_numbers.beside(x, y))
    return NotImplemented if _is_integer(x) and _is_integer(y) else _wide(_rest, *_as_floats(x, y))


def remainder_of(number: Any, y: Tensor) -> Tensor:
    """The same the other way round, ``1.7e9 % x``."""
    return free_numbers.beside(y, number).remainder(y)


def _rest(x: Tensor, y: Tensor) -> Tensor:
    rest = torch.fmod(x, y)
    return torch.where(_crosses(rest, y), rest + y, rest)


def _wide(function: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor | float) -> Tensor:
    """Narrow floats in float32, as torch computes them."""
    (to, _) = _as_floats(x, y)
    if to.dtype in (torch.float16, torch.bfloat16):
        x, y = x.float(), y.float() if isinstance(y, Tensor) else y
    return function(*_as_floats(x, y)).to(to.dtype)


def fmod(x: Tensor, y: Tensor | int) -> Any:
    """The remainder of a division towards zero, of integers."""
    if not (_is_integer(x) and _is_integer(y)):
        return NotImplemented
    return x - divide(x, y, rounding_mode="trunc") * y


def _is_integer(x: Tensor | float) -> bool:
    return not x.is_floating_point() if isinstance(x, Tensor) else isinstance(x, int | torch.SymInt)


def added(x: Any, y: Any, *, alpha: float = 1) -> Any:
    """Of two masks, which ONNX does not add."""
    are_masks = all(isinstance(each, Tensor) and each.dtype == torch.bool for each in (x, y))
    return x | y if are_masks and alpha else NotImplemented


def bounded(x: Tensor, min: float | None = None, max: float | None = None) -> Any:
    """Of one bound: ONNX Runtime takes the largest finite number for the other, also of Inf.

    A float64 is a Max or a Min then; of both bounds, twice beside each other, onnxscript (0.7.2)
    makes an invalid file.
    """
    if not _has_finite_ends(x) or (min is None) == (max is None):
        return NotImplemented
    if is_free(min) or is_free(max):
        return NotImplemented
    least, most = -math.inf if min is None else float(min), math.inf if max is None else float(max)
    return torch.clamp(x, least, most)


def bounded_above(x: Tensor, max: float) -> Any:
    """``bounded``, of ``clamp_max``."""
    return bounded(x, None, max)


def has_one_bound(node: Node) -> bool:
    """Whether ``bounded`` has something to do."""
    given = arguments(node)
    bounds = (given.get("min"), given.get("max"))
    return _has_finite_ends(node.meta["val"]) and bounds.count(None) == 1


def _has_finite_ends(x: Tensor) -> bool:
    return x.is_floating_point() and x.dtype != torch.float64


def power(x: Any, exponent: Any) -> Any:
    """Of whole numbers by products, which wrap: ONNX has none of narrow ones, and rounds others."""
    if is_free(exponent):
        return x ** free_numbers.beside(x, exponent)
    dtype = torch.result_type(x, exponent)
    if dtype not in _WHOLE or is_free(x):
        return NotImplemented
    wide = torch.int32 if dtype in _NARROW else dtype  # narrow ones are multiplied in none
    x, exponent = (
        each.to(wide) if isinstance(each, Tensor) else int(each) for each in (x, exponent)
    )
    if isinstance(exponent, int) and exponent > 0:
        return whole_power(x, exponent).to(dtype)
    return _power_by_bits(x, exponent, wide).to(dtype)


def _power_by_bits(x: Any, exponent: Any, dtype: torch.dtype) -> Tensor:
    """Right for exponents up to 64; beyond, for all but odd numbers that wrap."""
    x, exponent = (
        each if isinstance(each, Tensor) else torch.full((), each, dtype=dtype)
        for each in (x, exponent)
    )
    odd = exponent.remainder(2)
    most = torch.where(exponent > 64, 64 + odd, exponent)
    found, square = torch.ones_like(x), x
    for bit in range(7):
        is_set = most.remainder(2 ** (bit + 1)) >= 2**bit
        found = torch.where(is_set, found * square, found)
        square = square * square
    of_ones = torch.where(x == -1, 1 - 2 * odd, (x == 1).to(dtype))
    return torch.where(exponent < 0, of_ones, found)


_NARROW: Final = (torch.int8, torch.uint8, torch.int16)
_WHOLE: Final = (*_NARROW, torch.int32, torch.int64)

OF_NARROW: Final[Mapping[Any, Sequence[torch.dtype]]] = {
    _aten.add.Tensor: (torch.bool,),
    _aten.pow.Tensor_Scalar: _WHOLE,
    _aten.pow.Tensor_Tensor: _WHOLE,
    _aten.pow.Scalar: _WHOLE,
}
"""Operators that ONNX has, but for results of these dtypes, or has in floats."""


def whole_power(x: Tensor, exponent: int) -> Tensor:
    """By squares and products, for an exponent of at least 1."""
    found = x
    for digit in f"{exponent:b}"[1:]:
        found = found * found * x if digit == "1" else found * found
    return found


def rrelu(x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, *rest: Any) -> Any:
    """The mean slope, which is what it has in eval mode."""
    return (
        NotImplemented if any(rest[:1]) else torch.nn.functional.leaky_relu(x, (lower + upper) / 2)
    )


def rrelu_with_noise(x: Tensor, noise: Tensor, *bounds: Any) -> Any:
    """As ``rrelu``; the noise is that of training."""
    found = rrelu(x, *bounds)
    return found if found is NotImplemented else (found, noise)

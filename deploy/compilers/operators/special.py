"""Special functions that ONNX lacks, in float64: what is narrower is exact to its last bit then."""

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from .elementwise import signbit

_CENTRE: Final = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
     1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
     3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4,
     5.2264952788528545610e3),
)  # fmt: skip  # a table
_TAIL: Final = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
     3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
     2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
     1.05075007164441684324e-9),
)  # fmt: skip  # a table
_FAR_TAIL: Final = (
    (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0,
     2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
     2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
     2.04426310338993978564e-15),
)  # fmt: skip  # a table
"""Numerators and denominators of algorithm AS 241, PPND16 (Wichura, 1988): 16 digits."""


def erfinv(y: Tensor) -> Any:
    """The inverse of the error function."""
    if not y.is_floating_point():
        return NotImplemented
    wide = y.double()
    found = _quantile(wide / 2, (1 - wide.abs()) / 2) / math.sqrt(2)
    return found.to(y.dtype)


def ndtri(p: Tensor) -> Any:
    """The quantiles of the normal distribution."""
    if not p.is_floating_point():
        return NotImplemented
    wide = p.double()
    return _quantile(wide - 0.5, torch.minimum(wide, 1 - wide)).to(p.dtype)


def _quantile(apart: Tensor, tail: Tensor) -> Tensor:
    """Of the normal distribution, by the distance from 1/2 and what lies beyond."""
    inner = apart * _ratio(_CENTRE, 0.180625 - apart.square())
    root = torch.where(tail > 0, tail, 1).log().neg().sqrt()
    outer = torch.where(root <= 5, _ratio(_TAIL, root - 1.6), _ratio(_FAR_TAIL, root - 5))
    outer = torch.where(tail == 0, math.inf, torch.where(tail > 0, outer, math.nan))
    return torch.where(apart.abs() <= 0.425, inner, torch.where(apart < 0, -outer, outer))


def _ratio(terms: tuple[Sequence[float], Sequence[float]], x: Tensor) -> Any:
    over, under = terms
    return _polynomial(over, x) / _polynomial(under, x)


def _polynomial(terms: Sequence[float], x: Tensor) -> Any:
    """By Horner's rule, the constant first."""
    found: Any = terms[-1]
    for term in reversed(terms[:-1]):
        found = found * x + term
    return found


_SHIFT: Final = 10
_BERNOULLI: Final = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
"""Bernoulli numbers over their places: of the series of digamma for large values."""


def digamma(x: Tensor) -> Any:
    """By reflection, recurrence and the series for large values, as torch's own."""
    if not x.is_floating_point():
        return NotImplemented
    wide = x.double()
    low = wide < 0
    whole = wide == wide.floor()
    above = torch.where(low, 1 - wide, torch.where(wide == 0, 1, wide))
    shifted = above + _SHIFT
    inverse = 1 / shifted.square()
    found = shifted.log() - 0.5 / shifted - inverse * _polynomial(_BERNOULLI, inverse)
    for step in range(_SHIFT):
        found = found - 1 / (above + step)
    turn = math.pi * torch.where(whole, 0.5, wide - wide.trunc())
    reflected = found - math.pi * turn.cos() / turn.sin()
    found = torch.where(low, torch.where(whole, math.nan, reflected), found)
    pole = torch.where(signbit(wide), math.inf, -math.inf)
    return torch.where(wide == 0, pole, found).to(x.dtype)


_TURN: Final = 18.0
"""Where the series of powers is left for that of inverse powers: both have all digits there."""

_NEAR: Final = tuple(
    [
        (_TURN / 2) ** (2 * k + order) / (math.factorial(k) * math.factorial(k + order))
        for k in range(46)
    ]
    for order in (0, 1)
)
"""By order, of what is at most 1: to ONNX Runtime 1.31.1 a float64 that is 0 as a float32 is 0."""

_FAR: Final = tuple(
    [
        math.prod(((2 * j - 1) ** 2 - 4 * order) / (8 * j) for j in range(1, k + 1))
        for k in range(35)
    ]
    for order in (0, 1)
)


def i0(x: Tensor) -> Any:
    """The modified Bessel function of order 0; infinite from where an exponential is."""
    if not x.is_floating_point():
        return NotImplemented
    return _grown(_damped(x, 0), x)


def i0e(x: Tensor) -> Any:
    """The same over the exponential."""
    return _damped(x, 0).to(x.dtype) if x.is_floating_point() else NotImplemented


def i1(x: Tensor) -> Any:
    """The modified Bessel function of order 1."""
    return _grown(_damped(x, 1), x) if x.is_floating_point() else NotImplemented


def i1e(x: Tensor) -> Any:
    """The same over the exponential."""
    return _damped(x, 1).to(x.dtype) if x.is_floating_point() else NotImplemented


def _grown(damped: Tensor, x: Tensor) -> Tensor:
    """Infinite from where an exponential of float32 is, as torch's is."""
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    return (x.abs().to(kind).exp() * damped.to(kind)).to(x.dtype)


def _damped(x: Tensor, order: int) -> Tensor:
    """Over the exponential, by two series (Abramowitz and Stegun, 9.6.10 and 9.7.1)."""
    wide = x.double()
    size = wide.abs()
    small, large = size.clamp(max=_TURN), size.clamp(min=_TURN)
    part = small / _TURN
    near = part**order * _polynomial(_NEAR[order], part.square()) * (-small).exp()
    far = _polynomial(_FAR[order], 1 / large) / (2 * math.pi * large).sqrt()
    found = torch.where(size <= _TURN, near, far)
    return torch.where(wide < 0, -found, found) if order else found


_MIDDLE: Final = 0.46875
_END: Final = 4.0
_ERF: Final = (
    (3.20937758913846947e3, 3.77485237685302021e2, 1.13864154151050156e2,
     3.16112374387056560e0, 1.85777706184603153e-1),
    (2.84423683343917062e3, 1.28261652607737228e3, 2.44024637934444173e2,
     2.36012909523441209e1, 1.0),
)  # fmt: skip  # a table
_ERFCX: Final = (
    (1.23033935479799725e3, 2.05107837782607147e3, 1.71204761263407058e3, 8.81952221241769090e2,
     2.98635138197400131e2, 6.61191906371416295e1, 8.88314979438837594e0, 5.64188496988670089e-1,
     2.15311535474403846e-8),
    (1.23033935480374942e3, 3.43936767414372164e3, 4.36261909014324716e3, 3.29079923573345963e3,
     1.62138957456669019e3, 5.37181101862009858e2, 1.17693950891312499e2, 1.57449261107098347e1,
     1.0),
)  # fmt: skip  # a table
_FAR_ERFCX: Final = (
    (6.58749161529837803e-4, 1.60837851487422766e-2, 1.25781726111229246e-1,
     3.60344899949804439e-1, 3.05326634961232344e-1, 1.63153871373020978e-2),
    (2.33520497626869185e-3, 6.05183413124413191e-2, 5.27905102951428412e-1,
     1.87295284992346725e0, 2.56852019228982242e0, 1.0),
)  # fmt: skip  # a table
"""Rational approximations of the error function (Cody, 1969), numerators and denominators."""


def erf(x: Tensor) -> Tensor:
    """The error function in float64, for which ONNX Runtime has no kernel."""
    beyond = (1 - _scaled_tail(x.abs()) * (-x.square()).exp()) * torch.where(x < 0, -1.0, 1.0)
    return torch.where(x.abs() <= _MIDDLE, _near_erf(x), beyond)


def erfcx(x: Tensor) -> Any:
    """What is left to 1 of the error function, over ``exp(-x**2)``."""
    if not x.is_floating_point():
        return NotImplemented
    wide = x.double()
    near = (1 - _near_erf(wide)) * wide.square().exp()
    tail = _scaled_tail(wide.abs())
    beyond = torch.where(wide < 0, 2 * wide.square().exp() - tail, tail)
    return torch.where(wide.abs() <= _MIDDLE, near, beyond).to(x.dtype)


def log_ndtr(x: Tensor) -> Any:
    """The logarithm of the normal distribution, which underflows itself."""
    if not x.is_floating_point():
        return NotImplemented
    wide = x.double()
    scaled = wide / math.sqrt(2)
    tail = _scaled_tail(scaled.abs())
    low = (tail / 2).log() - scaled.square()
    near = 1 - _near_erf(scaled.abs())
    beyond = torch.where(scaled.abs() <= _MIDDLE, near, tail * (-scaled.square()).exp()) / 2
    above = torch.where(wide < 0, 1 - beyond, beyond)
    return torch.where(wide < -1, low, torch.log1p(-above)).to(x.dtype)


def _near_erf(x: Tensor) -> Any:
    inner = x.clamp(-_MIDDLE, _MIDDLE)
    return inner * _ratio(_ERF, inner.square())


def _scaled_tail(size: Tensor) -> Tensor:
    """``erfcx`` from where the error function itself is no better."""
    middle, far = size.clamp(_MIDDLE, _END), size.clamp(min=_END)
    inverse = 1 / far.square()
    rest = inverse * _ratio(_FAR_ERFCX, inverse)
    outer = (1 / math.sqrt(math.pi) - rest) / far
    return torch.where(size <= _END, _ratio(_ERFCX, middle), outer)


def polygamma(order: int, x: Tensor) -> Any:
    """Digamma and its derivative, as torch's own."""
    if order == 0 and x.is_floating_point():
        return torch.digamma(x)
    return _trigamma(x) if order == 1 and x.is_floating_point() else NotImplemented


def _trigamma(x: Tensor) -> Tensor:
    wide = x.double()
    low = wide < 0.5
    place = torch.where(low, 1 - wide, wide)
    found: Any = 0
    for _ in range(6):
        found = found + 1 / place.square()
        place = place + 1
    inverse = 1 / place.square()
    series = _polynomial((1 / 6, -1 / 30, 1 / 42), inverse)
    found = found + (1 + 1 / (2 * place) + inverse * series) / place
    reflected = (math.pi / (math.pi * wide).sin()).square() - found
    return torch.where(low, reflected, found).to(x.dtype)


def log_multigamma(x: Tensor, order: int) -> Any:
    """A sum of logarithms of the gamma function."""
    if not x.is_floating_point():
        return NotImplemented
    found = sum((torch.lgamma(x - step / 2) for step in range(1, order)), torch.lgamma(x))
    return found + order * (order - 1) / 4 * math.log(math.pi)

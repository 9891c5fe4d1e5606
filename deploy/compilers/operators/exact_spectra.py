"""Fourier transforms as products with cosines and sines, where ONNX Runtime's are far off.

Of lengths that are no power of two its DFT and STFT (1.31.1, CPU) are off by half a floor for each
unit of the length: by 5 floors at 12, by 126 at 400, the window of speech recognition at 16 kHz.
A product stays at 1.5; its matrix is made of whole numbers until the last division.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import pad

from .symbols import always

_aten: Any = torch.ops.aten


_LONGEST: Final = 4096
"""A matrix of as many rows has 32 MiB."""

_BY_ROOT, _BY_LENGTH = 1, 2
"""How torch scales: ``fft_norm_mode`` of its SpectralOpsUtils.h; 0 is not at all."""


def _forward_of_real(x: Tensor, dim: Sequence[int], normalization: int, onesided: bool) -> Any:
    """As ``aten._fft_r2c``."""
    lengths = [x.shape[axis] for axis in dim]
    if _stays(lengths):
        return NotImplemented
    *others, last = dim
    count = lengths[-1] // 2 + 1 if onesided else lengths[-1]
    cosines, sines = _waves(lengths[-1], count, x)  # (length, count)
    moved = x.movedim(last, -1)
    real, imaginary = ((moved @ waves).movedim(-1, last) for waves in (cosines, -sines))
    real, imaginary = _along(real, imaginary, others, forward=True)
    scale = _scale(lengths, normalization)
    return torch.complex(real * scale, imaginary * scale)


def _of_complex(z: Tensor, dim: Sequence[int], normalization: int, forward: bool) -> Any:
    """As ``aten._fft_c2c``."""
    lengths = [z.shape[axis] for axis in dim]
    if _stays(lengths):
        return NotImplemented
    real, imaginary = _along(z.real, z.imag, dim, forward=forward)
    scale = _scale(lengths, normalization)
    return torch.complex(real * scale, imaginary * scale)


def _back_to_real(z: Tensor, dim: Sequence[int], normalization: int, last_dim_size: Any) -> Any:
    """As ``aten._fft_c2r``: what is beyond the middle mirrors what is before it.

    Of any length: ONNX Runtime up to 1.26 opens no file with the operator that ONNX has for it.
    """
    *others, last = dim
    lengths = [*(z.shape[axis] for axis in others), last_dim_size]
    if _are_too_long(lengths):
        return NotImplemented
    count = last_dim_size // 2 + 1
    real, imaginary = _along(z.real, z.imag, others, forward=False)
    real, imaginary = (part.movedim(last, -1)[..., :count] for part in (real, imaginary))
    cosines, sines = (waves.mT for waves in _waves(last_dim_size, count, real))
    place = torch.arange(count).unsqueeze(-1)
    times = torch.where((place == 0) | (2 * place == last_dim_size), 1.0, 2.0).to(real.dtype)
    found = (real @ (times * cosines) - imaginary @ (times * sines)).movedim(-1, last)
    return found * _scale(lengths, normalization)


def _stft(
    x: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Any:
    """As ``aten.stft`` of real x (..., samples): (..., frequencies, frames)."""
    if _stays([n_fft]) or x.is_complex() or not return_complex or align_to_window:
        return NotImplemented
    hop = hop_length or n_fft // 4
    if window is not None:
        missing = n_fft - window.shape[0]
        window = pad(window, (missing // 2, missing - missing // 2))
    elif win_length not in (None, n_fft):
        return NotImplemented
    count = (x.shape[-1] - n_fft) // hop + 1
    place = torch.arange(count).unsqueeze(-1) * hop + torch.arange(n_fft)
    frames = x.index_select(-1, place.flatten()).reshape(*x.shape[:-1], count, n_fft)
    frames = frames if window is None else frames * window
    how = _BY_ROOT if normalized else 0
    return _forward_of_real(frames, [frames.dim() - 1], how, onesided is not False).mT


def _along(
    real: Tensor, imaginary: Tensor, dim: Sequence[int], *, forward: bool
) -> tuple[Tensor, Tensor]:
    """The transform of each of these axes, in parts."""
    for axis in dim:
        cosines, sines = _waves(real.shape[axis], real.shape[axis], real)
        sines = -sines if forward else sines
        a, b = real.movedim(axis, -1), imaginary.movedim(axis, -1)
        real = (a @ cosines - b @ sines).movedim(-1, axis)
        imaginary = (a @ sines + b @ cosines).movedim(-1, axis)
    return real, imaginary


def _waves(length: Any, count: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of place times frequency, (length, count)."""
    turns = torch.arange(length).unsqueeze(-1) * torch.arange(count) % length
    turns = torch.where(2 * turns > length, turns - length, turns)  # small angles are rounded less
    angles = turns.to(like.real.dtype) * (2 * math.pi) / length
    return angles.cos(), angles.sin()


def _scale(lengths: Sequence[Any], normalization: int) -> Any:
    total = math.prod(lengths)
    if normalization == _BY_ROOT:
        return total**-0.5
    return 1 / total if normalization == _BY_LENGTH else 1.0


def _stays(lengths: Sequence[Any]) -> bool:
    """Powers of two, of which ONNX Runtime has another kernel, and what would be too large."""
    are_powers = all(isinstance(n, int) and n & (n - 1) == 0 for n in lengths)
    return are_powers or _are_too_long(lengths)


def _are_too_long(lengths: Sequence[Any]) -> bool:
    return any(always(n > _LONGEST) for n in lengths)


def _taken_apart(operator: Any) -> Callable[..., Any]:
    """What it consists of; its own ``decompose`` would come back here."""
    return partial(operator._op_dk, torch._C.DispatchKey.CompositeImplicitAutograd)


_COMPOSED: Final = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")

TABLE: Final[Mapping[Any, Callable[..., Any]]] = {
    _aten._fft_r2c.default: _forward_of_real,
    _aten._fft_c2c.default: _of_complex,
    _aten._fft_c2r.default: _back_to_real,
    _aten.stft.default: _stft,
    **{
        operator: _taken_apart(operator)
        for name in _COMPOSED
        for kind in ("", "2", "n")
        for operator in [getattr(_aten, f"fft_{name}{kind}").default]
    },
}

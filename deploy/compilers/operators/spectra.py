"""``torch.istft`` while torch.export runs: torch's own takes the length for a constant.

What it falls apart to is one write for each place of a window, and no ONNX file (2.13).
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

_own_istft: Final[Any] = torch.istft


def istft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:  # as torch.istft
    """Frames, added up where they overlap, over the squares of their windows."""
    if onesided is False or return_complex:
        rest = win_length, window, center, normalized, onesided, length, return_complex
        return _own_istft(input, n_fft, hop_length, *rest)  # type: ignore[no-any-return]
    hop = hop_length or n_fft // 4
    norm = "ortho" if normalized else "backward"
    frames = torch.fft.irfft(input.transpose(-1, -2), n_fft, norm=norm)  # (..., frames, n_fft)
    weights = _widened(window, win_length or n_fft, n_fft, frames)
    squares = weights.square().expand(frames.shape[-2:])
    total, over = _added(frames * weights, hop), _added(squares, hop)
    skipped = n_fft // 2 if center else 0
    if length is None:
        end = total.shape[-1] - skipped
        return total[..., skipped:end] / over[skipped:end]
    place = torch.arange(length, device=input.device) + skipped
    is_there = place < total.shape[-1]
    place = place.clamp(max=total.shape[-1] - 1)
    found = total.index_select(-1, place) / over.index_select(0, place)
    return torch.where(is_there, found, 0)


def _widened(window: Tensor | None, length: int, n_fft: int, frames: Tensor) -> Tensor:
    if window is None:
        window = torch.ones(length, dtype=frames.dtype, device=frames.device)
    left = (n_fft - length) // 2
    return torch.nn.functional.pad(window, (left, n_fft - length - left))


def _added(frames: Tensor, hop: int) -> Tensor:
    """(..., frames, size) -> (..., size + (frames - 1) * hop)."""
    count, size = frames.shape[-2:]
    start = torch.arange(count, device=frames.device).unsqueeze(-1) * hop
    place = (start + torch.arange(size, device=frames.device)).flatten()
    room = frames.new_zeros((*frames.shape[:-2], size + (count - 1) * hop))
    return room.index_add(-1, place, frames.flatten(-2))


WHILE_CAPTURED: Final[Sequence[tuple[Any, str, Callable[..., Any]]]] = ((torch, "istft", istft),)
"""Owner, name and what stands there while torch.export runs."""

"""Pooling while torch.export runs: torch's own takes for constants what hangs on a free size.

That is a window as large as the image, ``F.max_pool1d(x, x.size(2))``, and how many windows there
are with ``ceil_mode``.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from .symbols import always, is_free

_functional: Final[Any] = torch.nn.functional  # its types know no free sizes
_Function = Callable[..., Tensor]


def _max_pool(own: Any, rank: int) -> _Function:
    def pooled(
        input: Tensor,
        kernel_size: Any,
        stride: Any = (),
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> Tensor:  # as torch.max_pool2d
        window, step, around, apart = _each(rank, kernel_size, stride, padding, dilation)
        whole = _whole(input, window, around)
        if whole:
            input = input.amax(whole, keepdim=True)
            window, step = _without(whole, window), _without(whole, step)
        if ceil_mode and _any_free(input, rank) and _counts(window, step, around, apart):
            input, ceil_mode = _functional.pad(input, _beyond(step), value=-math.inf), False
        return own(input, window, step, around, apart, ceil_mode)  # type: ignore[no-any-return]

    return pooled


def _average_pool(own: Any, rank: int) -> _Function:
    def pooled(
        input: Tensor,
        kernel_size: Any,
        stride: Any = (),
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Tensor:  # as torch.nn.functional.avg_pool2d
        window, step, around, apart = _each(rank, kernel_size, stride, padding, 1)
        whole = [] if divisor_override else _whole(input, window, around)
        if whole:
            input = input.mean(whole, keepdim=True)
            window, step = _without(whole, window), _without(whole, step)
        sides = [side for length in reversed(around) for side in (length, length)]
        counts = not ceil_mode or _counts(window, step, around, apart)
        if divisor_override and counts:  # which a file of torch's exporter forgets (2.13)
            input = _functional.pad(input, sides)
            input = _functional.pad(input, _beyond(step)) if ceil_mode else input
            return own(input, window, step) * (  # type: ignore[no-any-return]
                math.prod(window) / divisor_override
            )
        if not (ceil_mode and _any_free(input, rank) and counts):
            rest = ceil_mode, count_include_pad, divisor_override
            return own(input, window, step, around, *rest)  # type: ignore[no-any-return]
        ones = torch.ones((1, *input.shape[-rank:]), dtype=input.dtype, device=input.device)
        counted = _functional.pad(ones, sides, value=float(count_include_pad))
        total, count = (
            own(_functional.pad(each, _beyond(step)), window, step)
            for each in (_functional.pad(input, sides), counted)
        )
        return total / count  # type: ignore[no-any-return]

    return pooled


def _row(own: Any, two: _Function, moved: int) -> _Function:
    """Pooling of one axis, as of an image of one row where the axis is free.

    Args:
        own: torch's.
        two: That of two axes.
        moved: How many of the arguments have a value for each axis.
    """

    def pooled(
        input: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, *rest: Any, **more: Any
    ) -> Tensor:
        if not _any_free(input, 1):
            return own(  # type: ignore[no-any-return]
                input, kernel_size, stride, padding, *rest, **more
            )
        window, step, around, _ = _each(1, kernel_size, stride, padding, 1)
        spread = [(1, *_several(each, 1)) for each in rest[:moved]]
        if "dilation" in more:
            more["dilation"] = (1, *_several(more["dilation"], 1))
        row = input.unsqueeze(-2), (1, *window), (1, *step), (0, *around)
        return two(*row, *spread, *rest[moved:], **more).squeeze(-2)

    return pooled


def _each(rank: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> list[list[Any]]:
    has_stride = stride is not None and stride != () and stride != []
    given = kernel_size, stride if has_stride else kernel_size, padding, dilation
    return [_several(each, rank) for each in given]


def _several(value: Any, count: int) -> list[Any]:
    values = [*value] if isinstance(value, list | tuple) else [value]
    return values * count if len(values) == 1 else values


def _any_free(input: Tensor, rank: int) -> bool:
    return any(map(is_free, input.shape[-rank:]))


def _whole(input: Tensor, window: Sequence[Any], around: Sequence[int]) -> list[int]:
    """The axes whose window is all of a free size."""
    return [
        axis
        for axis in range(-len(window), 0)
        if type(window[axis]) is torch.SymInt
        and around[axis] == 0
        and always(window[axis] == input.shape[axis])
    ]


def _without(whole: Sequence[int], lengths: Sequence[Any]) -> list[Any]:
    return [1 if axis - len(lengths) in whole else each for axis, each in enumerate(lengths)]


def _counts(
    window: Sequence[int], step: Sequence[int], around: Sequence[int], apart: Sequence[int]
) -> bool:
    """Whether no window begins beyond the image, so that torch leaves none of them out."""
    return all(
        each + side <= far * (length - 1) + 1
        for length, each, side, far in zip(window, step, around, apart, strict=True)
    )


def _beyond(step: Sequence[int]) -> list[int]:
    """What is filled in behind an image, for a last window that is not full."""
    return [side for each in reversed(step) for side in (0, each - 1)]


_max_pool2d: Final = _max_pool(torch.max_pool2d, 2)
_avg_pool2d: Final = _average_pool(_functional.avg_pool2d, 2)

WHILE_CAPTURED: Final[Sequence[tuple[Any, str, Callable[..., Any]]]] = (
    (torch, "max_pool1d", _row(torch.max_pool1d, _max_pool2d, 1)),
    (torch, "max_pool2d", _max_pool2d),
    (torch, "max_pool3d", _max_pool(torch.max_pool3d, 3)),
    (_functional, "avg_pool1d", _row(_functional.avg_pool1d, _avg_pool2d, 0)),
    (_functional, "avg_pool2d", _avg_pool2d),
    (_functional, "avg_pool3d", _average_pool(_functional.avg_pool3d, 3)),
)
"""Owner, name and what stands there while torch.export runs."""

"""Functions of torch that take free sizes for constants, written otherwise while it captures.

torch.export calls them as forward does: what stands here is given their names meanwhile.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from .distances import cdist
from .symbols import is_free

_functional: Final[Any] = torch.nn.functional  # its types know no free sizes

_own_linspace: Final = torch.linspace


def linspace(start: Any, end: Any, steps: Any, **options: Any) -> Tensor:  # as torch.linspace
    """With a size for its number of steps, which torch's own takes for a constant.

    From both ends to the middle, as torch's own counts; a 16-bit type knows no count beyond its
    mantissa.
    """
    dtype = options.get("dtype") or torch.get_default_dtype()
    known = options.keys() <= {"dtype", "device"} and dtype.is_floating_point
    if not (known and type(steps) is torch.SymInt):
        own: Any = _own_linspace  # its types know no sizes
        return own(start, end, steps, **options)  # type: ignore[no-any-return]
    count: Any = steps
    wide = dtype if dtype.itemsize > 2 else torch.float32
    index = torch.arange(count, dtype=wide, device=options.get("device"))
    last = index[-1:]  # (1,): one less than the steps
    start, end = (as_tensor(x, dtype=wide, device=index.device) for x in (start, end))
    step = (end - start) / last.clamp(min=1)
    is_first_half = (index < ((last + 1) / 2).floor()) | (last == 0)
    return torch.where(is_first_half, start + step * index, end - step * (last - index)).to(dtype)


_own_as_tensor: Final[Any] = torch.as_tensor


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:  # as torch.as_tensor
    """Of sizes too, which torch's own takes for constants."""
    make: Any = torch.tensor if _holds_sizes(data) else _own_as_tensor
    return make(data, dtype=dtype, device=device)  # type: ignore[no-any-return]


_own_new_tensor: Final[Any] = Tensor.new_tensor


def new_tensor(x: Tensor, data: Any, **options: Any) -> Tensor:  # as torch.Tensor.new_tensor
    """Of sizes too."""
    if not _holds_sizes(data):
        return _own_new_tensor(x, data, **options)  # type: ignore[no-any-return]
    kind: Any = {"dtype": x.dtype, "device": x.device}
    return torch.tensor(data, **(kind | options))


def _holds_sizes(data: Any) -> bool:
    if isinstance(data, list | tuple):
        return any(map(_holds_sizes, data))
    return is_free(data)


_own_interpolate: Final = _functional.interpolate


def interpolate(  # as torch.nn.functional.interpolate
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """With whole factors as sizes: torch's own goes through floats, which equal no other size."""
    if size is None and scale_factor is not None:
        sides = input.shape[2:]
        several = isinstance(scale_factor, list | tuple)
        factors = scale_factor if several else [scale_factor] * len(sides)
        if all(float(factor).is_integer() for factor in factors):
            size = [side * int(factor) for side, factor in zip(sides, factors, strict=True)]
            scale_factor = recompute_scale_factor = None
    own: Any = _own_interpolate
    return own(  # type: ignore[no-any-return]
        input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias
    )


def _transposed(name: str, kind: type[Any]) -> Callable[..., Tensor]:
    """A transposed convolution that may be asked for a free size.

    It is made as large as it can be, and gathered, as nobody knows that what is asked for is less.
    """
    own, convolve = kind.forward, getattr(_functional, name)

    def forward(layer: Any, input: Tensor, output_size: Any = None) -> Tensor:
        if not _any_free(output_size):
            return own(layer, input, output_size)  # type: ignore[no-any-return]
        most = [step - 1 for step in layer.stride]
        options = layer.stride, layer.padding, most, layer.groups, layer.dilation
        found: Tensor = convolve(input, layer.weight, layer.bias, *options)
        for axis in range(-len(most), 0):
            length = output_size[axis]
            found = found.index_select(axis, torch.arange(length, device=found.device))
        return found

    return forward


def _any_free(size: Any) -> bool:
    return size is not None and any(map(is_free, size))


_own_affine_grid: Final = _functional.affine_grid


def affine_grid(
    theta: Tensor, size: Any, align_corners: bool | None = None
) -> Tensor:  # as torch.nn.functional.affine_grid
    """With free sizes, which torch's own takes for constants."""
    if not _any_free(size[2:]):
        return _own_affine_grid(theta, size, align_corners)  # type: ignore[no-any-return]
    places: list[Tensor] = []
    for length in size[2:]:
        index = torch.arange(length, dtype=theta.dtype, device=theta.device)
        last = index[-1:]  # (1,): one less than the length
        places.append((2 * index - last) / (last.clamp(min=1) if align_corners else last + 1))
    mesh = torch.meshgrid(*places, indexing="ij")
    base = torch.stack([*reversed(mesh), torch.ones_like(mesh[0])], -1)  # x, y, (z,) 1
    grid = base.flatten(0, -2) @ theta.mT
    return grid.reshape(size[0], *size[2:], len(places))


def take_along_dim(
    input: Tensor, indices: Tensor, dim: int | None = None
) -> Tensor:  # as torch.take_along_dim
    """By ``gather``, where the indices alone have to be repeated."""
    sizes = [*input.shape]
    if dim is None or any(type(size) is int and size == 1 for size in sizes):
        return _own_take_along_dim(input, indices, dim)  # type: ignore[no-any-return]
    sizes[dim] = indices.shape[dim]
    return input.gather(dim, indices.expand(sizes))


_own_take_along_dim: Final[Any] = torch.take_along_dim


_own_one_hot: Final[Any] = _functional.one_hot


def one_hot(tensor: Tensor, num_classes: Any = -1) -> Tensor:  # as torch.nn.functional.one_hot
    """Of as many classes as a free size, which torch's own takes for a constant."""
    if type(num_classes) is not torch.SymInt:
        return _own_one_hot(tensor, num_classes)  # type: ignore[no-any-return]
    classes: Tensor = _arange(num_classes, device=tensor.device)
    return (tensor.unsqueeze(-1) == classes).long()


def square_root(number: Any) -> Any:  # as math.sqrt
    """Of a size too."""
    return number**0.5 if type(number) is torch.SymInt else _own_square_root(number)


_own_square_root: Final = math.sqrt


def window(name: str, terms: Sequence[float]) -> Callable[..., Tensor]:
    """As ``torch.hann_window`` and the like of a free size: a sum of cosines.

    Args:
        name: Of torch's own.
        terms: Factors of the cosines of 0, once the angle, twice the angle, ...
    """
    own = getattr(torch, name)

    def made(length: Any, periodic: bool = True, **options: Any) -> Tensor:
        if type(length) is not torch.SymInt or options.keys() - _OF_WINDOWS:
            return own(length, periodic, **options)  # type: ignore[no-any-return]
        kind = {key: options[key] for key in ("dtype", "device") if options.get(key) is not None}
        index: Tensor = _arange(length, **{"dtype": torch.get_default_dtype(), **kind})
        last = index[-1:]  # (1,): one less than the length
        angle = index * (2 * math.pi / (last + 1 if periodic else last.clamp(min=1)))
        waves = [factor * (n * angle).cos() for n, factor in enumerate(terms[1:], 1)]
        return torch.where(last == 0, 1.0, sum(waves, torch.full_like(angle, terms[0])))

    return made


_arange: Final[Any] = torch.arange  # its types know no free sizes
_OF_WINDOWS: Final = {"dtype", "device", "layout", "pin_memory", "requires_grad"}
_WINDOWS: Final[Mapping[str, Sequence[float]]] = {
    "hann_window": (0.5, -0.5),
    "hamming_window": (0.54, -0.46),
    "blackman_window": (0.42, -0.5, 0.08),
}

_own_tensor_split: Final[Any] = torch.tensor_split


def tensor_split(
    input: Tensor, indices_or_sections: Any, dim: int = 0
) -> tuple[Tensor, ...]:  # as torch.tensor_split
    """Of a free size, which torch's own takes for a constant."""
    count: Any = indices_or_sections
    length: Any = input.shape[dim]  # its types know no free sizes
    if type(count) is not int or type(length) is not torch.SymInt:
        return _own_tensor_split(input, count, dim)  # type: ignore[no-any-return]
    parts, start = [], 0
    for part in range(count):
        size: Any = (length + count - 1 - part) // count  # the first ones take what is left over
        parts.append(input.narrow(dim, start, size))
        start = start + size
    return tuple(parts)


def quotient_and_rest(number: Any, by: Any) -> tuple[Any, Any]:  # as divmod
    """Of a size, which torch leaves out."""
    return number // by, number % by


_own_div: Final[Any] = torch.div


def div(input: Any, other: Any, **options: Any) -> Any:  # as torch.div
    """Of a size by a number, as a size: a tensor would have to be read again."""
    is_size = type(input) is torch.SymInt and isinstance(other, int | torch.SymInt)
    if is_size and options in ({"rounding_mode": "floor"}, {"rounding_mode": "trunc"}):
        return input // other
    return _own_div(input, other, **options)


_own_opt_einsum: Final = torch.backends.opt_einsum.get_opt_einsum


class _ByExample:
    """``opt_einsum``, where it is installed: the order of products by the sizes of the capture.

    It makes numbers of all sizes otherwise; any order is right.
    """

    @staticmethod
    def contract_path(equation: str, *operands: Tensor, **options: Any) -> Any:
        shapes = [tuple(map(_example_of, operand.shape)) for operand in operands]
        return _own_opt_einsum().contract_path(equation, *shapes, shapes=True, **options)


def _example_of(size: Any) -> int:
    return size.node.hint or _SOME if isinstance(size, torch.SymInt) else size


_SOME: Final = 2
"""Where nothing is known, as of how many rows a mask chooses."""


WHILE_CAPTURED: Final[Sequence[tuple[Any, str, Callable[..., Any]]]] = (
    (torch, "cdist", cdist),
    (torch, "linspace", linspace),
    (torch, "as_tensor", as_tensor),
    (Tensor, "new_tensor", new_tensor),
    (torch, "div", div),
    (torch.backends.opt_einsum, "get_opt_einsum", _ByExample),
    (torch, "take_along_dim", take_along_dim),
    (torch.SymInt, "__divmod__", quotient_and_rest),
    (math, "sqrt", square_root),
    (torch, "tensor_split", tensor_split),
    (Tensor, "tensor_split", tensor_split),
    *((torch, name, window(name, terms)) for name, terms in _WINDOWS.items()),
    (_functional, "interpolate", interpolate),
    (_functional, "affine_grid", affine_grid),
    (_functional, "one_hot", one_hot),
    *(
        (kind, "forward", _transposed(f"conv_transpose{rank}d", kind))
        for rank, kind in enumerate((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), 1)
    ),
)
"""Owner, name and what stands there while torch.export runs."""

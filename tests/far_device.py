"""A device of torch that computes on the CPU, and refuses tensors of both: ``far``.

Importing it changes torch for the whole process: it is for processes that a test starts. The
strides of its tensors are those of contiguous ones, and what is written into another view is lost.
"""

from typing import Any, Final

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils import backend_registration

aten: Any = torch.ops.aten
register: Any = backend_registration  # untyped, as are the next ones
library: Any = torch.library.Library
core: Any = torch._C
register._setup_privateuseone_for_python_backend("far")

moved_bytes: Final[list[int]] = []
"""Of each tensor that was copied from the CPU."""

_contents: Final[dict[int, Tensor]] = {}


class Far(Tensor):
    """What torch knows of a tensor there: its shape and type."""

    @staticmethod
    def __new__(cls: Any, content: Tensor) -> Any:
        made: Any = core._acc.create_empty_tensor(content.shape, content.dtype)
        made.__class__ = cls
        _contents[made.untyped_storage()._cdata] = content.contiguous()
        return made


def content_of(x: Tensor) -> Tensor:
    """Its values, by the storage that shallow copies share."""
    return _contents[x.untyped_storage()._cdata]


def _is_far(x: object) -> bool:
    return isinstance(x, Tensor) and x.device.type == "far"


def _compute(operator: Any, *args: Any, **kwargs: Any) -> Any:
    given: dict[int, Tensor] = {}

    def near(x: Any) -> Any:
        if isinstance(x, torch.device):
            return torch.device("cpu")
        if not isinstance(x, Tensor):
            return x
        assert _is_far(x) or not x.ndim, f"{operator} takes {list(x.shape)} of the CPU"
        if not _is_far(x):
            return x
        found = content_of(x)
        given[id(found)] = x
        return found

    args, kwargs = pytree.tree_map(near, (args, kwargs))
    if operator is aten.view.default:
        operator = aten.reshape.default
    if operator is aten.as_strided.default:
        args = (*args[:3], args[0].storage_offset() + (args[3] or 0 if len(args) > 3 else 0))

    def far(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return given[id(x)] if id(x) in given else Far(x)

    return pytree.tree_map(far, operator(*args, **kwargs))


def _copy(source: Tensor, to: Tensor, non_blocking: bool = False) -> Tensor:
    if not _is_far(source):
        moved_bytes.append(source.nbytes)
    (content_of(to) if _is_far(to) else to).copy_(content_of(source) if _is_far(source) else source)
    return to


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, *how: Any) -> Any:
    return _compute(aten.convolution.default, x, weight, bias, *how)


def _convolve_backward(gradient: Tensor, x: Tensor, weight: Tensor, *how: Any) -> Any:
    sizes = [weight.shape[0]]
    return _compute(aten.convolution_backward.default, gradient, x, weight, sizes, *how)


_own: Final = library("aten", "IMPL")
_others: Final = library("_", "IMPL")
for _name, _function in {
    "_copy_from": _copy,
    "_local_scalar_dense": lambda x: content_of(x).item(),
    "abs": lambda x: Far(content_of(x).abs()),
    "empty.memory_format": lambda size, dtype=None, **_: Far(torch.empty(size, dtype=dtype)),
    "empty_strided": lambda size, stride, dtype=None, **_: Far(torch.empty(size, dtype=dtype)),
    "convolution_overrideable": _convolve,
    "convolution_backward_overrideable": _convolve_backward,
}.items():
    _own.impl(_name, _function, "PrivateUse1")
_others.fallback(_compute, "PrivateUse1")

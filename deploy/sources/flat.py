"""The module as every compiler sees it: tensors in, a tuple of tensors out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import torch
from torch import nn

from . import trees


@dataclass(frozen=True, slots=True)
class Call:
    """How forward is called: its arguments, with tensors in the places of the inputs.

    Attributes:
        args, kwargs: Trees of tensors and constants.
        names: Of the tensors, in order.
        dtypes: Of the tensors, as forward takes them; numpy has no bfloat16, so that such an
            input is passed as float32 and narrowed on its way in.
    """

    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    names: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]

    @classmethod
    def of(cls, arguments: Mapping[str, object], by_position: int) -> Self:
        """A call with these arguments, the first of them by position."""
        found = [pair for name, tree in arguments.items() for pair in _named(tree, name)]
        values = list(arguments.items())
        return cls(
            tuple(value for _, value in values[:by_position]),
            dict(values[by_position:]),
            tuple(name for name, _ in found),
            tuple(tensor.dtype for _, tensor in found),
        )

    def bind(self, inputs: Iterable[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments with these tensors in place of the example's."""
        rest = iter(inputs)
        return trees.filled(self.args, rest), trees.filled(dict(self.kwargs), rest)


def _named(tree: object, name: str) -> list[tuple[str, torch.Tensor]]:
    return list(trees.named_tensors(tree, name))


class Flat(nn.Module):
    """A module whose inputs and outputs are flat, in dtypes that numpy has."""

    def __init__(self, module: nn.Module, call: Call, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.module = module
        self.call = call
        self.dtype = dtype
        self.training = getattr(module, "training", False)  # frozen code knows none

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Call the module, and flatten what it returns."""
        return tuple(_in_numpy(tensor) for tensor in trees.tensors(self.nested(inputs)))

    def nested(self, inputs: Sequence[torch.Tensor]) -> Any:
        """Call the module, and leave what it returns as it is."""
        narrowed = [
            tensor.to(dtype) if dtype == torch.bfloat16 else tensor
            for tensor, dtype in zip(inputs, self.call.dtypes, strict=True)
        ]
        if self.dtype is not None:
            narrowed = [t.to(self.dtype) if t.is_floating_point() else t for t in narrowed]
        try:
            return self._called(narrowed)
        except RuntimeError as e:
            if _NO_GRADIENTS not in str(e):
                raise
        with torch.enable_grad():  # forward takes derivatives, and was run without
            return self._called([_followed(tensor) for tensor in narrowed])

    def _called(self, inputs: Iterable[torch.Tensor]) -> Any:
        args, kwargs = self.call.bind(inputs)
        return self.module(*args, **kwargs)

    def around(self, module: nn.Module) -> "Flat":
        """The same for another form of the module."""
        return Flat(module, self.call, self.dtype)


_NO_GRADIENTS: Final = "does not require grad"
"""What ``torch.autograd.grad`` and ``backward`` say under ``torch.no_grad``."""


def _followed(tensor: torch.Tensor) -> torch.Tensor:
    is_float = tensor.is_floating_point()
    return tensor.detach().requires_grad_() if is_float else tensor


def _in_numpy(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor

"""Nested inputs and results, by the plainest means: what a test compares the product with."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


def flat(values: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors by flat name; constants are left out.

    Examples:
        >>> import torch
        >>> list(flat({"x": torch.ones(1), "hx": (torch.ones(1), torch.ones(1)), "flag": True}))
        ['x', 'hx_0', 'hx_1']
    """
    return dict(pair for name, value in values.items() for pair in _named(name, value))


def tensors(value: Any) -> list[Tensor]:
    """The tensors of a result, in order; ``None`` and other constants are left out."""
    return [tensor for _, tensor in _named("", value)]


def mapped(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same containers, with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: mapped(change, item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[mapped(change, item) for item in value])
    if isinstance(value, tuple | list):
        return type(value)(mapped(change, item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{k: mapped(change, item) for k, item in children(value)})
    return value


def children(value: Any) -> list[tuple[str, Any]]:
    """The parts of a container with their keys; none of anything else."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, tuple | list):
        return [(str(index), item) for index, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    return []


def _named(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    for key, item in children(value):
        yield from _named(f"{name}_{key}" if name else key, item)

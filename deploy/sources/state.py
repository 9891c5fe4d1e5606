"""What a module keeps from call to call: its parameters, buffers and plain attributes."""

import contextlib
import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import nn

from . import trees

_OF_TORCH: Final = vars(nn.Module()).keys() - {"training"}
"""Attributes in which torch keeps the others, and hooks."""

State: TypeAlias = Mapping[str, str]
"""Attribute (``encoder.cache``) -> digest of what is in it."""


def state_of(module: nn.Module) -> State:
    """A digest of every parameter, buffer and plain attribute of a module and its parts."""
    found: dict[str, str] = {}
    for path, part in module.named_modules():
        own = _of_script(part) if isinstance(part, torch.jit.ScriptModule) else vars(part)
        plain = {name: value for name, value in own.items() if name not in _OF_TORCH}
        for name, value in {**plain, **part._buffers, **part._parameters}.items():
            found[f"{path}.{name}" if path else name] = digest(value)
    return found


def _of_script(part: torch.jit.ScriptModule) -> dict[str, object]:
    """What a script or a file of TorchScript can write to: ``vars`` has its methods instead."""
    kind: Any = getattr(part, "_concrete_type", None)  # frozen ones have none
    return {name: getattr(part, name) for name in kind.get_attributes()} if kind else {}


def changed(before: State, after: State) -> list[str]:
    """The attributes that are not what they were."""
    return [name for name, value in after.items() if before.get(name) != value]


def digest(value: object) -> str:
    """Of the tensors, arrays and plain values in it; of other objects nothing is known."""
    found = hashlib.blake2b(digest_size=16)
    with contextlib.suppress(Exception):  # a type of somebody's own may bear no reading
        for data in _data(value, set()):
            found.update(data)
    return found.hexdigest()


def _data(value: object, seen: set[int]) -> Iterator[bytes]:
    if isinstance(value, nn.Parameter):
        yield f"{id(value)} {value._version}".encode()  # large, and seldom written
    elif isinstance(value, torch.Tensor):
        yield f"{value.dtype}{list(value.shape)}".encode()
        if value.layout == torch.strided and not value.is_quantized and value.device.type == "cpu":
            whole = value.detach().resolve_conj().resolve_neg().contiguous()
            # behind Tensor.numpy() torch lets nobody resize it
            yield np.from_dlpack(whole.view(-1).view(torch.uint8)).tobytes()
    elif isinstance(value, np.ndarray):
        yield np.asarray(value).tobytes()
    elif isinstance(value, torch.Generator):
        yield value.get_state().numpy().tobytes()
    elif isinstance(value, trees.CONSTANTS):
        yield repr(value).encode()
    elif isinstance(value, set | frozenset):
        yield "".join(sorted(map(digest, value))).encode()
    elif not isinstance(value, nn.Module) and id(value) not in seen:  # it may lead to itself
        seen.add(id(value))
        parts = enumerate(value) if isinstance(value, deque) else trees.children(value)
        for key, child in parts:
            yield str(key).encode()
            yield from _data(child, seen)

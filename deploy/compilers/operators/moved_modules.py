"""``self.layer.to(x.dtype)(x)``, as routers of experts have it: a layer that is there already.

torch swaps its parameters all the same, which are symbols while a program is captured, and fails.
"""

import itertools
from importlib import import_module
from typing import Any, Final

from torch import nn

_own_to: Final[Any] = nn.Module.to  # it has no types
_parsed: Final[Any] = import_module("torch._C._nn")._parse_to


def _to(module: nn.Module, *args: Any, **options: Any) -> nn.Module:
    device, dtype, *_ = _parsed(*args, **options)
    for tensor in itertools.chain(module.parameters(), module.buffers()):
        is_number = tensor.is_floating_point() or tensor.is_complex()
        if device not in (None, tensor.device) or (is_number and dtype not in (None, tensor.dtype)):
            moved: nn.Module = _own_to(module, *args, **options)
            return moved
    return module


WHILE_CAPTURED: Final = ((nn.Module, "to", _to),)

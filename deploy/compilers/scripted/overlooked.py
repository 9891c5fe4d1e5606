"""What torch.jit (2.13) passes over, so that a script answers otherwise than the module.

Of a decorator it reads what is behind it; it calls ``forward`` where a class has a ``__call__`` of
its own; and it compiles modules of one class once, though one may have a ``forward`` of its own.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.jit import frontend

from .kept_values import KeptValues


@contextlib.contextmanager
def overlooks_nothing(module: nn.Module) -> Iterator[None]:
    """While it is entered, nothing is scripted of which something would be passed over.

    Raises:
        NotImplementedError: There is something.
    """
    for path, part in module.named_modules():
        own_call = getattr(type(part).__call__, "__module__", "")
        if isinstance(part, torch.jit.ScriptModule):
            continue
        if not own_call.startswith("torch.") or "forward" in vars(part):
            raise NotImplementedError(
                f"torch.jit calls the forward of its class, not what {path or 'the module'!r} has"
            )
    own: Any = vars(frontend)["parse_def"]  # a rewriting one, where that is tried

    def parse(function: Any) -> Any:
        each = function
        while (inner := getattr(each, "__wrapped__", None)) is not None:
            place = getattr(each, "__globals__", {}).get("__name__", "")
            if not place.startswith("torch."):  # ``@torch.no_grad()``
                name = function.__qualname__
                raise NotImplementedError(f"torch.jit leaves out the decorator of {name!r}")
            each = inner
        found = own(function)
        found.ast.body[:] = map(KeptValues().visit, found.ast.body)
        return found

    with mock.patch.object(frontend, "parse_def", parse):
        yield

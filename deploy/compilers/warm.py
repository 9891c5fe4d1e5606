"""The compilers, loaded once: processes that are forked afterwards have what is loaded here."""

import contextlib
import functools
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from torch import nn

from .targets import DYNAMO_OPSETS
from .upstream import quiet


def warm_up(formats: Sequence[str], opset: int) -> None:
    """Load what compiling to these formats needs: hundreds of modules, and ONNX's operators.

    It takes seconds, once. The smallest of modules is compiled, as only that tells what is needed.
    """
    if any(name.startswith("onnx") for name in formats):
        _warm_up(opset)
    elif "pt2" in formats:
        _warm_up(None)


@functools.cache
def _warm_up(opset: int | None) -> None:
    example = (torch.zeros(1),)
    with quiet(), contextlib.suppress(Exception):  # whoever compiles in earnest is told
        torch.export.save(torch.export.export(nn.Identity(), example), io.BytesIO())
        if opset in DYNAMO_OPSETS:
            with operators_kept():
                torch.onnx.export(nn.Identity(), example, opset_version=opset, dynamo=True)


@contextlib.contextmanager
def operators_kept() -> Iterator[None]:
    """While it is entered, dynamo's exporter takes its table of operators from the last time.

    Else it reads the source code of 500 functions for it, at every export. It changes the table
    only by translations that a caller brings, and we have none.
    """
    registry, read = _table()
    with mock.patch.object(registry, "from_torchlib", lambda _, opset_version: read(opset_version)):
        yield


@functools.cache
def _table() -> tuple[Any, Callable[[int], Any]]:
    from torch.onnx._internal.exporter._registration import ONNXRegistry  # loads dynamo

    return ONNXRegistry, functools.cache(ONNXRegistry.from_torchlib)

"""Run a torch archive so that every operator in it is seen."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from edgeport.runtimes.inputs import Array

from .recording import Recorder, record
from .trace import Trace


class _Named(torch.fx.Interpreter):
    """Runs a graph and tells the recorder which node it is at."""

    def __init__(self, module: torch.fx.GraphModule, recorder: Recorder) -> None:
        super().__init__(module)
        self._recorder = recorder

    def run_node(self, n: torch.fx.Node) -> Any:
        self._recorder.node = n.name
        return super().run_node(n)


def trace_torch(
    path: Path,
    format_: str,
    inputs: Mapping[str, Array],
    outputs: Sequence[str],
    limit: int,
) -> tuple[Trace, Recorder]:
    """Run a TorchScript file or an exported program, and note every value.

    Args:
        path: The file, which is trusted: loading it can run code.
        format_: ``torchscript`` or ``pt2``.
        inputs: By name, in order.
        outputs: Names, in order.
        limit: How many elements of a value are kept.

    Returns:
        The trace, up to where the archive failed if it does, and the recorder, which can run
        parts of it again.

    Raises:
        Exception: Whatever torch raises when it loads the file.
    """
    recorder = Recorder(limit, replayable=True)
    module = _loaded(path, format_)
    recorder.name(module)
    run = _Named(module, recorder).run if isinstance(module, torch.fx.GraphModule) else module

    def call(tensors: list[torch.Tensor]) -> Iterable[torch.Tensor]:
        return [leaf for leaf in tree_leaves(run(*tensors)) if isinstance(leaf, torch.Tensor)]

    return record(call, recorder, inputs, outputs, partial=True), recorder


def _loaded(path: Path, format_: str) -> Any:
    if format_ == "pt2":
        return torch.export.load(path).module()
    with warnings.catch_warnings():  # torch 2.13 deprecates every torch.jit entry
        warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated")
        return torch.jit.load(  # type: ignore[no-untyped-call]  # torch.jit has no types
            str(path), map_location="cpu"
        )

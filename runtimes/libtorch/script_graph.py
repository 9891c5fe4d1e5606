"""The graph of a TorchScript file: its nodes, and what must be another in it on another device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch

_ALLOW_TF32: Final = "allow_tf32"
_CONVOLUTION: Final = "aten::_convolution"
"""The operator of a trace, which keeps what cuDNN was allowed to do when it was traced."""


def move_to(module: Any, device: torch.device, *, tf32: bool) -> None:
    """Let a graph make its tensors on a device, and compute there as it was asked for.

    ``torch.jit.load(map_location=...)`` moves tensors alone. A trace keeps the device of its
    example, a script that names none makes its tensors on the CPU (``torch.arange(n)``), and a
    traced convolution rounds to TF32 whatever ``torch.backends.cudnn.allow_tf32`` is now. It
    works as long as nothing was run.

    Args:
        module: A ``torch.jit.ScriptModule``.
        device: Where everything is to be.
        tf32: Whether convolutions may round to TF32.
    """
    for part in module.modules():
        for name in part._c._method_names():
            graph = part._c._get_method(name).graph
            torch._C._jit_pass_inline(graph)  # functions and methods that it calls
            for node in list(nodes(graph)):
                _move(graph, node, device, tf32)


def nodes(block: Any) -> Iterator[Any]:
    """All nodes of a graph or block, those of branches and bodies inside too."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from nodes(inner)


def _move(graph: Any, node: Any, device: torch.device, tf32: bool) -> None:
    kind = node.kind()
    if kind == "prim::Constant" and node.output().type().kind() == "DeviceObjType":
        node.s_("value", str(device))
    if not kind.startswith("aten::") or node.schema() == "(no schema)":
        return
    arguments = torch._C.parse_schema(node.schema()).arguments
    makes = not any(str(argument.type) == "Tensor" for argument in arguments)
    for place, argument in enumerate(arguments):
        if argument.name == "device" and makes and node.inputsAt(place).type().kind() == "NoneType":
            _replace(graph, node, place, device)
        elif argument.name == _ALLOW_TF32 and kind == _CONVOLUTION:
            _replace(graph, node, place, tf32)


def _replace(graph: Any, node: Any, place: int, value: object) -> None:
    graph.setInsertPoint(node)
    node.replaceInput(place, graph.insertConstant(value))

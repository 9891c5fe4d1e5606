"""Quotients of whole numbers in the older exporter to ONNX, which rounds them towards 0 (2.13).

``-(-rows // 3)``, which rounds up, was wrong at two of three sizes.
"""

import contextlib
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

_EXPORTER: Final = "torch.onnx._internal.torchscript_exporter"
_NAMES: Final = ("aten::floor_divide", "aten::floordiv")


@contextlib.contextmanager
def floored(opset: int) -> Iterator[None]:
    """Let them be rounded down.

    Args:
        opset: That is written.
    """
    registry = import_module(f"{_EXPORTER}.registration").registry
    for name in _NAMES:
        registry.register(name, opset, _floored, custom=True)
    try:
        yield
    finally:
        for name in _NAMES:
            registry.unregister(name, opset)


def _floored(graph: Any, over: Any, by: Any) -> Any:
    kinds = import_module(f"{_EXPORTER}._type_utils").JitScalarType
    helper = import_module(f"{_EXPORTER}.symbolic_helper")
    own = import_module(f"{_EXPORTER}.symbolic_opset10")
    if kinds.from_value(over, kinds.UNDEFINED) == kinds.UNDEFINED:
        return own.opset9.floor_divide(graph, over, by)
    if helper._is_fp(over) or helper._is_fp(by):
        return own._floor_divide(graph, over, by)
    if not (_is_size(over) and _is_positive(by)):
        over = graph.op("Sub", over, graph.op("Mod", over, by, fmod_i=0))
    return graph.op("Div", over, by)


def _is_size(value: Any) -> bool:
    node = value.node()
    return bool(
        node.kind() == "onnx::Gather" and next(node.inputs()).node().kind() == "onnx::Shape"
    )


def _is_positive(value: Any) -> bool:
    node = value.node()
    return node.kind() == "onnx::Constant" and bool((node.t("value") > 0).all())

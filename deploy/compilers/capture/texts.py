"""Texts that forward makes of values, ``f"expert{x.argmax().item()}"``, are asked for like numbers.

Torch writes the name of its symbol, ``u0``, which no table of keys has, so that what stands beside
the table is taken for every input (2.13).
"""

import sys
from typing import Any, Final

import torch
from torch._subclasses.fake_tensor import FakeTensor

from edgeport.deploy.compilers.operators import quotients
from edgeport.deploy.diagnosis.places import Line
from edgeport.deploy.diagnosis.telling import only_tells

_TELLERS: Final = {"logging", "traceback", "unittest", "warnings"}


def is_asked_for(symbol: Any, frame: Any) -> bool:
    """Whether a text is made of values, and not for people alone.

    Sizes of what is chosen are none: einops makes keys of them.

    Args:
        symbol: Of what it is made.
        frame: Who makes it.
    """
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols  # loads sympy

    while is_ours(frame):
        frame = frame.f_back
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    if quotients.is_torch(frame) or package in _TELLERS or symbol.node.is_nested_int():
        return False
    if not free_unbacked_symbols(symbol.node.expr) - symbol.node.shape_env.size_like:
        return False
    return not only_tells(Line(frame.f_code.co_filename, frame.f_lineno))


def is_ours(frame: Any) -> bool:
    """Whether it stands between a question and forward, as what mends ``int`` of a number."""
    return str(frame.f_globals.get("__name__", "")).startswith("edgeport.deploy.compilers.")


def _written(asks: str, own: Any) -> Any:
    def text(symbol: Any) -> str:
        asked = is_asked_for(symbol, sys._getframe(1))
        return repr(getattr(symbol.node, asks)("", 0)) if asked else str(own(symbol))

    return text


def _formatted(own: Any) -> Any:
    """``f"expert{e}"`` of a whole number in a tensor, which torch writes as its ``item()``."""

    def text(tensor: torch.Tensor, form: str) -> str:
        frame = sys._getframe(1)
        is_number = isinstance(tensor, FakeTensor) and not tensor.dim()
        is_left = (
            not is_number
            or (tensor.is_floating_point() or tensor.is_complex())
            or (is_ours(frame) or quotients.is_torch(frame))
            or only_tells(Line(frame.f_code.co_filename, frame.f_lineno))
        )
        return str(own(tensor, form)) if is_left else format(tensor.item(), form)

    return text


WHILE_CAPTURED: Final[tuple[tuple[Any, str, Any], ...]] = (
    *(
        (symbol, "__repr__", _written(asks, symbol.__repr__))
        for symbol, asks in (
            (torch.SymInt, "guard_int"),
            (torch.SymFloat, "guard_float"),
            (torch.SymBool, "guard_bool"),
        )
    ),
    (torch.Tensor, "__format__", _formatted(torch.Tensor.__format__)),
)
"""What is patched while a program is captured: owner, name, function."""

"""Derivatives of ``torch.func`` by pulling back alone: of the others torch's own fix free sizes.

They build matrices in place, or carry tangents forward, which nothing that follows a module takes.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

_Function = Callable[..., Any]

_vjp: Final[Any] = torch.func.vjp
_vmap: Final[Any] = torch.func.vmap


def jacobian(function: _Function, argnums: Any = 0, **options: Any) -> _Function:
    """As ``torch.func.jacrev`` and ``jacfwd``, of one argument and a tensor as the result."""
    if type(argnums) is not int or options.get("has_aux"):
        return _own_jacobian(function, argnums, **options)  # type: ignore[no-any-return]

    def found(*args: Any) -> Any:
        def of_one(x: Tensor) -> Any:
            return function(*args[:argnums], x, *args[argnums + 1 :])

        x = args[argnums]
        y, pull = _vjp(of_one, x)
        rows = torch.eye(y.numel(), dtype=y.dtype, device=y.device).reshape(-1, *y.shape)
        (pulled,) = _vmap(pull)(rows)
        return pulled.reshape(*y.shape, *x.shape)

    return found


_own_jacobian: Final[Any] = torch.func.jacrev


def hessian(function: _Function, argnums: Any = 0) -> _Function:
    """As ``torch.func.hessian``."""
    return jacobian(jacobian(function, argnums), argnums)


def jvp(function: _Function, primals: Any, tangents: Any, **options: Any) -> Any:
    """As ``torch.func.jvp``: what is pulled back hangs on what it is pulled from, linearly."""
    if options:
        return _own_jvp(function, primals, tangents, **options)
    y, pull = _vjp(function, *primals)
    _, push = _vjp(pull, torch.zeros_like(y))
    (pushed,) = push(tuple(tangents))
    return y, pushed


_own_jvp: Final[Any] = torch.func.jvp

WHILE_CAPTURED: Final[Sequence[tuple[Any, str, _Function]]] = (
    (torch.func, "jacrev", jacobian),
    (torch.func, "jacfwd", jacobian),
    (torch.func, "hessian", hessian),
    (torch.func, "jvp", jvp),
)
"""Owner, name and what stands there while torch.export runs."""

"""Types in scripted code that nobody wrote down: of defaults, and of what begins as ``None``.

torch.jit takes a parameter without an annotation for a tensor (2.13): of ``mask=None`` it knows no
``None``, nor of ``mask: Tensor = None``; ``scale=2.0`` it refuses, and keyword-only ones with a
default, ``*, mask=None``, altogether. A variable that begins as ``state = None`` is ``None`` for
it, and never a tensor.
"""

import ast
import contextlib
import copy
import re
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any, Final
from unittest import mock
from weakref import WeakKeyDictionary

from torch.jit import _recursive, _state, frontend

_OPTIONAL: Final = "Optional[Tensor]"
_TYPES: Final[Mapping[type, str]] = {
    NoneType: _OPTIONAL,
    **{each: each.__name__ for each in (bool, int, float, str)},
}

_build: Final[Any] = frontend.build_def


@contextlib.contextmanager
def guessed() -> Iterator[None]:
    """Write them down while a module is scripted, of which nothing is remembered."""
    with (
        mock.patch.object(frontend, "build_def", _build_typed),
        mock.patch.object(_recursive, "concrete_type_store", _recursive.ConcreteTypeStore()),
        mock.patch.object(_state, "_jit_caching_layer", WeakKeyDictionary()),
    ):
        yield


def _build_typed(context: Any, function: ast.FunctionDef, *rest: Any, **named: Any) -> Any:
    typed = _Typed().visit(copy.deepcopy(function))  # torch keeps it
    return _build(context, typed, *rest, **named)


class _Typed(ast.NodeTransformer):
    """Annotates the parameters of a function, and the first ``None`` of each variable."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def visit_arguments(self, given: ast.arguments) -> ast.arguments:
        positional = [*given.posonlyargs, *given.args]
        with_default = positional[len(positional) - len(given.defaults) :]
        for parameter, default in (
            *zip(with_default, given.defaults, strict=True),
            *zip(given.kwonlyargs, given.kw_defaults, strict=True),
        ):
            if default is not None:  # keyword-only ones may have none
                parameter.annotation = _annotation(parameter, default)
        given.kw_defaults = []  # they are read from the function itself
        self._known = {each.arg for each in (*positional, *given.kwonlyargs)}
        return given

    def visit_Assign(self, node: ast.Assign) -> ast.Assign | ast.AnnAssign:
        (*others, target) = node.targets
        if others or not isinstance(target, ast.Name) or target.id in self._known:
            return node
        self._known.add(target.id)
        if not isinstance(node.value, ast.Constant) or node.value.value is not None:
            return node
        kind = _parsed(_OPTIONAL, node)
        return ast.copy_location(ast.AnnAssign(target, kind, node.value, simple=1), node)


def _annotation(parameter: ast.arg, default: ast.expr) -> ast.expr | None:
    told = None if parameter.annotation is None else ast.unparse(parameter.annotation)
    try:
        kind = type(ast.literal_eval(default))
    except ValueError:  # the name of a constant, or a call
        return parameter.annotation
    if told is None and kind in _TYPES:
        return _parsed(_TYPES[kind], parameter)
    if told is not None and kind is NoneType and not _MAY_BE_NONE.search(told):
        return _parsed(f"Optional[{told}]", parameter)
    return parameter.annotation


_MAY_BE_NONE: Final = re.compile(r"\b(Optional|None|Any)\b|['\"]")
"""In an annotation; what stands in one as text is left."""


def _parsed(kind: str, beside: ast.AST) -> ast.expr:
    made = ast.parse(kind, mode="eval").body
    for node in ast.walk(made):
        ast.copy_location(node, beside)
    return made

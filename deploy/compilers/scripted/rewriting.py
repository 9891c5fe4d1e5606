"""Scripted code in words that torch.jit has, where it refuses what many write (2.13).

A parameter without an annotation is a tensor for it: of ``mask=None`` it knows no ``None``, nor of
``mask: Tensor = None``; ``scale=2.0`` it refuses, and keyword-only ones with a default altogether.
A variable that begins as ``state = None`` is never a tensor. It has no constants of modules
(``LIMIT``), no sets, no formats in the text of an error, no loggers and no ``torch.finfo``, and it
unpacks no shapes (``x.view(*x.shape[:2], -1)``).
"""

import ast
import builtins
import contextlib
import inspect
import math
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import partial
from types import NoneType
from typing import Any, Final, TypeVar
from unittest import mock
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch._sources import parse_def
from torch.jit import _recursive, _state, frontend

from edgeport.deploy.diagnosis.telling import changes_nothing, is_telling

from .list_loops import read_outside, through_lists
from .nodes import beside, is_call_of, parsed, statements

A = TypeVar("A", ast.If, ast.While, ast.IfExp)
N = TypeVar("N", bound=ast.AST)

_own_parse: Final[Any] = parse_def  # it has no types


@contextlib.contextmanager
def rewritten(module: nn.Module) -> Iterator[None]:
    """Rewrite functions before they are scripted.

    Args:
        module: What is scripted.
    """
    names = {name.rpartition(".")[2] for name, _ in module.named_modules()}
    with mock.patch.object(frontend, "parse_def", partial(_parse, names)), scripted_anew():
        yield


@contextlib.contextmanager
def scripted_anew() -> Iterator[None]:
    """While it is entered, nothing is taken of what was scripted before, whose graphs are mended.

    Else modules of one class share them.
    """
    with (
        mock.patch.object(_recursive, "concrete_type_store", _recursive.ConcreteTypeStore()),
        mock.patch.object(_state, "_jit_caching_layer", WeakKeyDictionary()),
    ):
        yield


def _parse(modules: Set[str], function: Any) -> Any:
    found = _own_parse(function)
    (body,) = found.ast.body
    found.ast.body[:] = [_Rewriting(function, body, modules).visit(body)]
    return found


class _Rewriting(ast.NodeTransformer):
    """Of one function.

    Args:
        function: It.
        body: Its definition.
        modules: By which names modules hold others: ``self.logger`` may be one.
    """

    def __init__(self, function: Any, body: ast.FunctionDef, modules: Set[str]) -> None:
        plain = inspect.unwrap(function)
        cells = zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=True)
        held = {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}
        self._around = {**vars(builtins), **plain.__globals__, **held}
        self._local = {each.arg for each in ast.walk(body) if isinstance(each, ast.arg)}
        self._begun = {*self._local}
        self._modules = modules
        self._items: set[str] = set()
        self._loops = 0
        self._read_behind = read_outside(body)
        for each in ast.walk(body):
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                self._local.add(each.id)

    def visit_arguments(self, node: ast.arguments) -> ast.arguments:
        positional = [*node.posonlyargs, *node.args]
        with_default = positional[len(positional) - len(node.defaults) :]
        for parameter, default in (
            *zip(with_default, node.defaults, strict=True),
            *zip(node.kwonlyargs, node.kw_defaults, strict=True),
        ):
            if default is not None:  # keyword-only ones may have none
                parameter.annotation = _annotation(parameter, default)
        node.kw_defaults = []  # they are read from the function itself
        return node

    def visit_Assign(self, node: ast.Assign) -> Any:
        """Annotate what begins as ``None``, and take shapes apart: ``rows, *rest = x.shape``."""
        self.generic_visit(node)
        first = node.targets[0]
        if isinstance(first, ast.Tuple) and len(node.targets) == 1:
            if isinstance(node.value, ast.Tuple) and all(map(_is_none, node.value.elts)):
                return self._each_none(first.elts, node)
            if _is_shape(node.value) and any(isinstance(each, ast.Starred) for each in first.elts):
                return _taken_apart(first.elts, node)
        return self._each_none(node.targets, node) if _is_none(node.value) else self._noted(node)

    def _each_none(self, targets: Sequence[ast.expr], node: ast.Assign) -> list[ast.stmt]:
        return [self._none(target, node) for target in targets]

    def _none(self, target: ast.expr, node: ast.Assign) -> ast.stmt:
        value = beside(node, ast.Constant(None))
        if not isinstance(target, ast.Name) or target.id in self._begun:
            return beside(node, ast.Assign([target], value))
        self._begun.add(target.id)
        kind = parsed(_OPTIONAL, node)
        return beside(node, ast.AnnAssign(target, kind, value, simple=1))

    def _noted(self, node: ast.Assign) -> ast.Assign:
        names = {each.id for each in node.targets if isinstance(each, ast.Name)}
        self._begun |= names
        if self._is_item(node.value):
            self._items |= names
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Write out a constant of the module."""
        value = self._around.get(node.id, node)
        if node.id in self._local or type(value) not in (bool, int, float, str, NoneType):
            return node
        is_plain = not isinstance(value, float) or math.isfinite(value)
        return parsed(repr(value) if is_plain else f"float('{value}')", node)

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        """Leave out what people read."""
        is_told = isinstance(node.value, ast.Call) and self._tells(node.value)
        return beside(node, ast.Pass()) if is_told else self._visited(node)

    def _tells(self, call: ast.Call) -> bool:
        """Whether it tells, by what its names are here too."""
        if not is_telling(call):
            return False
        root = call.func
        while isinstance(root, ast.Attribute):
            if root.attr in self._modules:
                return False
            root = root.value
        name = getattr(root, "id", "logging")  # of a call it is ``logging.getLogger()``
        is_own = name == "self" or name not in self._local
        held = self._around.get(name)
        is_other = isinstance(held, nn.Module) or (name == "print" and held is not print)
        return is_own and not is_other

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        if isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            node.exc.args = [beside(node, ast.Constant(_literal(node.exc)))]
            node.exc.keywords, node.cause = [], None
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        if node.msg is not None:
            node.msg = beside(node, ast.Constant(_literal(node.msg)))
        return self._visited(node)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """Ask for each member of a set: no tensor is in one, and no whole number is made of 0.7."""
        self.generic_visit(node)
        (first, *others), (held, *_) = node.ops, node.comparators
        is_asked_of = isinstance(held, ast.Set) or self._is_item(node.left)
        if others or not (isinstance(first, ast.In | ast.NotIn) and is_asked_of):
            return node
        parts = held.elts if isinstance(held, ast.Set | ast.List | ast.Tuple) else []
        asks_alone = all(map(changes_nothing, ast.walk(node.left)))
        if not parts or not all(map(_is_literal, parts)) or not asks_alone:
            return node
        asked = ast.unparse(node.left)
        code = " or ".join(f"{asked} == {ast.unparse(each)}" for each in parts)
        code = (
            f"not isinstance({asked}, Tensor) and ({code})"
            if isinstance(held, ast.Set)
            else f"({code})"
        )
        return parsed(f"not ({code})" if isinstance(first, ast.NotIn) else f"({code})", node)

    def visit_If(self, node: ast.If) -> ast.If:
        return self._asking(node)

    def visit_While(self, node: ast.While) -> ast.While:
        return self._asking(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.IfExp:
        return self._asking(node)

    def _asking(self, node: A) -> A:
        self.generic_visit(node)
        node.test = self._truth(node.test)
        return node

    def _truth(self, asked: ast.expr) -> ast.expr:
        """Of a number, whether it is other than 0: torch.jit makes a whole one of it."""
        if isinstance(asked, ast.BoolOp):
            asked.values = [self._truth(each) for each in asked.values]
        if isinstance(asked, ast.UnaryOp) and isinstance(asked.op, ast.Not):
            asked.operand = self._truth(asked.operand)
        is_item = self._is_item(asked)
        return parsed(f"({ast.unparse(asked)}) != 0", asked) if is_item else asked

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """``x * scale`` for ``scale * x``: torch.jit makes a number of the tensor otherwise."""
        self.generic_visit(node)
        is_first = isinstance(node.left, ast.Call) and _has_call(node.right)  # and changes no other
        if isinstance(node.op, ast.Mult | ast.Add) and self._is_item(node.left) and not is_first:
            node.left, node.right = node.right, node.left
        return node

    def _is_item(self, value: ast.expr) -> bool:
        if isinstance(value, ast.Name):
            return value.id in self._items
        is_method = isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute)
        return is_method and value.func.attr == "item"  # type: ignore[attr-defined]

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """Sizes of which some are unpacked are a list; some methods have another name."""
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and not node.args and not node.keywords:
            if node.func.attr == "bool" and self._around.get("torch") is torch:
                node.func.attr, node.args = "to", [parsed("torch.bool", node)]
                return node
            node.func.attr = _RENAMED.get(node.func.attr, node.func.attr)
        takes_sizes = isinstance(node.func, ast.Attribute) and node.func.attr in _TAKING_SIZES
        if takes_sizes and any(map(_is_unpacked_shape, node.args)):
            node.args = [_joined(node.args, node)]
        return node

    def visit_List(self, node: ast.List) -> ast.expr:
        self.generic_visit(node)
        is_made = isinstance(node.ctx, ast.Load)
        unpacks = any(isinstance(each, ast.Starred) for each in node.elts)
        return _joined(node.elts, node) if is_made and unpacks else node

    def visit_For(self, node: ast.For) -> Any:
        """Go through a list of modules itself, where ``for i in range(n): self.layers[i](x)``."""
        self.generic_visit(node)
        self._loops += 1
        return through_lists(node, self._loops, self._read_behind)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        """``torch.finfo(x.dtype).min`` by the dtypes that there are."""
        self.generic_visit(node)
        if not is_call_of("torch.finfo", node.value):
            return node
        asked = ast.unparse(node.value.args[0])  # type: ignore[attr-defined]  # it is a call
        told = [(name, getattr(torch.finfo(getattr(torch, name)), node.attr)) for name in _FLOATS]
        sides = [f"{number!r} if {asked} == torch.{name} else " for name, number in told[:-1]]
        return parsed(f"({''.join(sides)}{told[-1][1]!r})", node)

    def _visited(self, node: N) -> N:
        self.generic_visit(node)
        return node


_OPTIONAL: Final = "Optional[Tensor]"
_TYPES: Final[Mapping[type, str]] = {
    NoneType: _OPTIONAL,
    **{each: each.__name__ for each in (bool, int, float, str)},
}
_MAY_BE_NONE: Final = re.compile(r"\b(Optional|None|Any)\b|['\"]")
"""In an annotation; what stands in one as text is left."""

_TAKING_SIZES: Final = {
    *("view", "reshape", "expand", "repeat", "permute", "tile", "new_zeros", "new_ones"),
    *("zeros", "ones", "empty", "rand", "randn", "new_empty"),
}
_RENAMED: Final = {"nelement": "numel", "ndimension": "dim"}
_FLOATS: Final = ("float32", "float16", "bfloat16", "float64")


def _is_filled(cell: Any) -> bool:
    with contextlib.suppress(ValueError):
        cell.cell_contents  # noqa: B018  # which an empty one has not
        return True
    return False


def _annotation(parameter: ast.arg, default: ast.expr) -> ast.expr | None:
    told = None if parameter.annotation is None else ast.unparse(parameter.annotation)
    try:
        kind = type(ast.literal_eval(default))
    except ValueError:  # the name of a constant, or a call
        return parameter.annotation
    if told is None and kind in _TYPES:
        return parsed(_TYPES[kind], parameter)
    if told is not None and kind is NoneType and not _MAY_BE_NONE.search(told):
        return parsed(f"Optional[{told}]", parameter)
    return parameter.annotation


def _has_call(value: ast.expr) -> bool:
    return any(isinstance(each, ast.Call) for each in ast.walk(value))


def _is_literal(value: ast.expr) -> bool:
    """Whether it is a number or a text as it stands there."""
    value = value.operand if isinstance(value, ast.UnaryOp) else value
    return isinstance(value, ast.Constant)


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _is_shape(value: ast.expr) -> bool:
    """``x.shape``, ``x.size()``, or a part of one."""
    if isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Slice):
        return _is_shape(value.value)
    if isinstance(value, ast.Call) and not value.args:
        return isinstance(value.func, ast.Attribute) and value.func.attr == "size"
    return isinstance(value, ast.Attribute) and value.attr == "shape"


def _is_unpacked_shape(value: ast.expr) -> bool:
    return isinstance(value, ast.Starred) and _is_shape(value.value)


def _taken_apart(targets: Sequence[ast.expr], node: ast.Assign) -> list[ast.stmt]:
    shape = "sizes_taken_apart"  # what makes it is asked once
    made = statements(f"{shape} = {ast.unparse(node.value)}", node)
    is_behind = False
    for place, target in enumerate(targets):
        from_end = place - len(targets)
        if isinstance(target, ast.Starred):
            is_behind = True
            end = from_end + 1 or ""
            target, told = target.value, f"{shape}[{place}:{end}]"
        else:
            told = f"{shape}[{from_end if is_behind else place}]"
        made.append(beside(node, ast.Assign([target], parsed(told, node))))
    return made


def _joined(parts: Sequence[ast.expr], node: ast.expr) -> ast.expr:
    """``[a, *b]`` as ``[a] + list(b)``, a list of its own."""
    lists = [
        parsed(f"list({ast.unparse(each.value)})", node)  # the sum of two tensors is another thing
        if isinstance(each, ast.Starred)
        else beside(node, ast.List([each], ast.Load()))
        for each in parts
    ]
    found = lists[0]
    for each in lists[1:]:
        found = beside(node, ast.BinOp(found, ast.Add(), each))
    return found


def _literal(told: ast.AST) -> str:
    """What of a text is the same in each call."""
    texts = (each.value for each in ast.walk(told) if isinstance(each, ast.Constant))
    return " ".join(each for each in texts if isinstance(each, str))

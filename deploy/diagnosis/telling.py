"""Lines of the user's that only tell something to people: whatever they ask, no answer hangs on it.

``if x.max() > 50: logger.warning("large")``: a file needs neither a condition nor a note of it.
"""

import ast
import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from torch import Tensor

from .places import Line

_LOGGER: Final = re.compile(r"_*(get_?)?log(s|ger|ging)?", re.IGNORECASE)
_LEVELS: Final = {"critical", "debug", "error", "exception", "info", "log", "warn", "warning"}
_FUNCTIONS: Final = {
    *("abs", "all", "any", "bool", "dict", "float", "format", "getattr", "hasattr", "id", "int"),
    *("isinstance", "len", "list", "max", "min", "range", "repr", "round", "set", "sorted", "str"),
    *("sum", "tuple", "type", "zip"),
}
_LIBRARIES: Final = {"F", "datetime", "math", "np", "numpy", "os", "time", "torch"}
_METHODS: Final = {*dir(Tensor), *dir(str), "get", "items", "values"}


@lru_cache(maxsize=1024)  # each layer asks on the same lines, and files are long
def only_tells(line: Line) -> bool:
    """Whether it prints, logs or warns, or asks whether to, and nothing else."""
    try:
        tree = ast.parse(Path(line.file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    found = [statement for statement in ast.walk(tree) if _has(statement, line.number)]
    return bool(found) and all(map(_tells, found)) and not any(map(_names, found))


def _has(node: ast.AST, number: int) -> bool:
    """Whether a line is of a statement, of one with a body what stands before that."""
    if not isinstance(node, ast.stmt):
        return False
    body = getattr(node, "body", None)
    last = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno or 0
    return node.lineno <= number <= last


def _tells(statement: ast.AST) -> bool:
    if isinstance(statement, ast.If):
        sides = (*statement.body, *statement.orelse)
        asked = (node for each in sides if isinstance(each, ast.If) for node in ast.walk(each.test))
        return all(map(_tells, sides)) and all(map(changes_nothing, asked))
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return is_telling(statement.value)
    return isinstance(statement, ast.Pass)


def is_telling(call: ast.Call) -> bool:
    """Whether it prints, logs or warns, by its name, of what changes nothing."""
    calls = (node for each in (*call.args, *call.keywords) for node in ast.walk(each))
    return _is_told_by(call.func) and all(map(changes_nothing, calls))


def _is_told_by(function: ast.expr) -> bool:
    if not isinstance(function, ast.Attribute):
        return _last_name(function) == "print"
    owner = _last_name(function.value)
    is_logger = function.attr in _LEVELS and _LOGGER.fullmatch(owner)
    return bool(is_logger) or (owner, function.attr) == ("warnings", "warn")


def changes_nothing(node: ast.AST) -> bool:
    """Whether it calls nothing, or what gives a value alone: ``y.max()``, not ``y.clamp_(0)``."""
    if not isinstance(node, ast.Call):
        return not isinstance(node, ast.NamedExpr)
    if any(each.arg in (None, "inplace", "out") for each in node.keywords):
        return False
    function = node.func
    if not isinstance(function, ast.Attribute):
        return isinstance(function, ast.Name) and function.id in _FUNCTIONS
    root: ast.expr = function.value
    is_own = isinstance(root, ast.Name) and root.id == "self"  # ``self.norm(x)``: a module
    while isinstance(root, ast.Attribute):
        root = root.value
    is_library = isinstance(root, ast.Name) and root.id in _LIBRARIES
    return (
        not is_own and not function.attr.endswith("_") and (is_library or function.attr in _METHODS)
    )


def _last_name(expression: ast.expr) -> str:
    if isinstance(expression, ast.Call):
        expression = expression.func
    name: str = getattr(expression, "attr", getattr(expression, "id", ""))
    return name


def _names(statement: ast.AST) -> bool:
    """Whether it keeps what it asks, by ``:=``."""
    return any(isinstance(node, ast.NamedExpr) for node in ast.walk(statement))

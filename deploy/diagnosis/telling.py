"""Lines of the user's that only tell something to people: whatever they ask, no answer hangs on it.

``if x.max() > 50: logger.warning("large")``: a file needs neither a condition nor a note of it.
"""

import ast
import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from .places import Line

_LOGGER: Final = re.compile(r"_*(get_?)?log(s|ger|ging)?", re.IGNORECASE)
_LEVELS: Final = {"critical", "debug", "error", "exception", "info", "log", "warn", "warning"}


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
        return all(map(_tells, (*statement.body, *statement.orelse)))
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return is_telling(statement.value.func)
    return isinstance(statement, ast.Pass)


def is_telling(function: ast.expr) -> bool:
    """Whether what is called prints, logs or warns, by its name."""
    if not isinstance(function, ast.Attribute):
        return _last_name(function) == "print"
    owner = _last_name(function.value)
    is_logger = function.attr in _LEVELS and _LOGGER.fullmatch(owner)
    return bool(is_logger) or (owner, function.attr) == ("warnings", "warn")


def _last_name(expression: ast.expr) -> str:
    if isinstance(expression, ast.Call):
        expression = expression.func
    name: str = getattr(expression, "attr", getattr(expression, "id", ""))
    return name


def _names(statement: ast.AST) -> bool:
    """Whether it keeps what it asks, by ``:=``."""
    return any(isinstance(node, ast.NamedExpr) for node in ast.walk(statement))

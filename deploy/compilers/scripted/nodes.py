"""Nodes of Python code in the place of others."""

import ast
from typing import TypeVar

N = TypeVar("N", bound=ast.AST)


def parsed(code: str, place: ast.AST) -> ast.expr:
    """An expression, where another one stands."""
    made = ast.parse(code, mode="eval").body
    for node in ast.walk(made):
        ast.copy_location(node, place)
    return made


def statements(code: str, place: ast.AST) -> list[ast.stmt]:
    """Statements, where another one stands."""
    made = ast.parse(code).body
    for each in made:
        for node in ast.walk(each):
            ast.copy_location(node, place)
    return made


def beside(place: ast.AST, made: N) -> N:
    """A new node, where another one stands; what it holds stays where it is."""
    return ast.fix_missing_locations(ast.copy_location(made, place))


def is_call_of(name: str, value: ast.expr) -> bool:
    """Whether it calls what has a name with one argument."""
    is_call = isinstance(value, ast.Call) and ast.unparse(value.func) == name
    return is_call and len(value.args) == 1  # type: ignore[attr-defined]

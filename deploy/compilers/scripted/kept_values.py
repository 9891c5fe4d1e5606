"""``count or 1`` in a script, where Python keeps the count.

torch.jit (2.13) makes ``True`` of it.
"""

import ast
from functools import partial, reduce
from typing import Any, Final

from edgeport.deploy.diagnosis.telling import changes_nothing

from .nodes import beside, parsed


class KeptValues(ast.NodeTransformer):
    """Writes out what ``and`` and ``or`` give, of numbers, where more than its truth is asked."""

    def __init__(self) -> None:
        self._asked: set[ast.AST] = set()

    def visit(self, node: ast.AST) -> Any:
        """Note what is asked for its truth alone."""
        if isinstance(node, ast.If | ast.IfExp | ast.While | ast.Assert):
            self._asked.add(node.test)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self._asked.add(node.operand)
        if isinstance(node, ast.BoolOp) and node in self._asked:
            self._asked |= {*node.values}
        return super().visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        """Write it out for two at a time."""
        is_asked = node in self._asked
        self.generic_visit(node)
        return node if is_asked else reduce(partial(_kept, node.op), node.values)


def _kept(word: ast.boolop, first: ast.expr, second: ast.expr) -> ast.expr:
    both = beside(first, ast.BoolOp(word, [first, second]))
    if isinstance(first, _CONDITIONS) or not all(map(changes_nothing, ast.walk(first))):
        return both
    a, b = ast.unparse(first), ast.unparse(second)
    chosen = f"({a}) if ({a}) != 0 else ({b})"
    if isinstance(word, ast.And):
        chosen = f"({b}) if ({a}) != 0 else ({a})"
    kinds = f"isinstance({a}, (bool, Tensor))"  # asked while it is compiled
    return parsed(f"({ast.unparse(both)}) if {kinds} else ({chosen})", first)


_CONDITIONS: Final = (ast.Compare, ast.BoolOp)

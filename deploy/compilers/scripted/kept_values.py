"""What torch.jit (2.13) compiles to something else than Python does.

Of ``count or 1``, where Python keeps the count, it makes ``True``. ``keep[1:] &= mask`` and the
like it computes, and writes nowhere; ``ids %= 3`` it takes for ``fmod``, which has the other sign.
``ids * 10**6`` is one of float32, and of ``0 < left.pop() < 5`` the middle is asked for twice. To
it, ``True`` is no ``int``.
"""

import ast
from collections.abc import Mapping
from functools import partial, reduce
from typing import Any, Final

from edgeport.deploy.diagnosis.telling import changes_nothing

from .nodes import beside, parsed, statements


class KeptValues(ast.NodeTransformer):
    """Writes out what is compiled to something else.

    That is what ``and`` and ``or`` give, of numbers, where more than its truth is asked, and what
    ``&=``, ``|=``, ``^=``, ``**=`` and ``%=`` write into a tensor, ``//=`` too, which it refuses.
    """

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

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """A power of whole numbers as they stand there is one, where torch.jit makes a float."""
        self.generic_visit(node)
        base, power = _whole(node.left), _whole(node.right)
        if not isinstance(node.op, ast.Pow) or base is None or power is None:
            return node
        if not 0 <= power < 63:
            return node
        made: int = base**power
        return beside(node, ast.Constant(made)) if made < 2**63 else node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """A truth is an ``int`` too."""
        self.generic_visit(node)
        if ast.unparse(node.func) == "isinstance" and len(node.args) == 2:
            kinds = node.args[1]
            held = kinds.elts if isinstance(kinds, ast.Tuple) else [kinds]
            if any(isinstance(each, ast.Name) and each.id == "int" for each in held):
                names = ", ".join(map(ast.unparse, held))
                node.args[1] = parsed(f"({names}, bool)", kinds)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """See that what stands in the middle may be asked for twice.

        Raises:
            NotImplementedError: It changes something.
        """
        self.generic_visit(node)
        for middle in node.comparators[:-1]:
            if not all(map(changes_nothing, ast.walk(middle))):
                raise NotImplementedError(f"torch.jit computes {ast.unparse(middle)!r} twice")
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        """Write into the tensor, or into a part of it.

        Raises:
            NotImplementedError: What is written into would be computed twice, and may differ.
        """
        self.generic_visit(node)
        if (method := _IN_PLACE.get(type(node.op))) is None:
            return node
        target = ast.unparse(node.target)
        if not all(map(changes_nothing, ast.walk(node.target))):
            raise NotImplementedError(f"torch.jit does not write by {ast.unparse(node)!r}")
        written = f"{target}.{method}({ast.unparse(node.value)})"
        new = ast.unparse(ast.BinOp(_loaded(node.target), node.op, node.value))
        code = f"if isinstance({target}, Tensor):\n  {written}\nelse:\n  {target} = {new}"
        if isinstance(node.target, ast.Subscript):
            whole = ast.unparse(node.target.value)
            code = f"if isinstance({whole}, Tensor):\n  {target} = {new}\nel{code}"
        (made,) = statements(code, node)
        return made


def _whole(value: ast.expr) -> int | None:
    held = value.value if isinstance(value, ast.Constant) else None
    return held if type(held) is int else None


def _loaded(target: ast.expr) -> ast.expr:
    return ast.parse(ast.unparse(target), mode="eval").body


_IN_PLACE: Final[Mapping[type[ast.operator], str]] = {
    ast.BitAnd: "bitwise_and_",
    ast.BitOr: "bitwise_or_",
    ast.BitXor: "bitwise_xor_",
    ast.FloorDiv: "floor_divide_",
    ast.Mod: "remainder_",
    ast.Pow: "pow_",
}


def _kept(word: ast.boolop, first: ast.expr, second: ast.expr) -> ast.expr:
    both = beside(first, ast.BoolOp(word, [first, second]))
    is_number = isinstance(second, ast.Name | ast.Constant)  # more may need what the first asks
    if isinstance(first, _CONDITIONS) and not is_number:
        return both
    if not all(map(changes_nothing, ast.walk(first))):
        return both
    a, b = ast.unparse(first), ast.unparse(second)
    chosen, of_truth = f"({a}) if ({a}) != 0 else ({b})", f"1 if ({a}) else ({b})"
    if isinstance(word, ast.And):
        chosen, of_truth = f"({b}) if ({a}) != 0 else ({a})", f"({b}) if ({a}) else 0"
    if is_number:
        of_truth = f"({ast.unparse(both)}) if {_is_truth(b)} else ({of_truth})"
    else:
        of_truth = ast.unparse(both)
    return parsed(f"({of_truth}) if {_is_truth(a)} else ({chosen})", first)


def _is_truth(code: str) -> str:
    return f"isinstance({code}, (bool, Tensor))"  # asked while it is compiled


_CONDITIONS: Final = (ast.Compare, ast.BoolOp)

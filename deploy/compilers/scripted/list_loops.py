"""Loops of scripted code over the places of lists: ``for i in range(n): x = self.layers[i](x)``.

torch.jit (2.13) picks no module by a variable. Through the list itself it goes by unrolling the
loop, and has neither ``break`` nor ``continue`` in one.
"""

import ast
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any, Final

from .nodes import beside, is_call_of, parsed, statements


def through_lists(loop: ast.For, number: int, read_behind: Set[str]) -> Any:
    """The same through the lists of ``self`` themselves, if it calls what is at its places.

    Args:
        loop: It is changed.
        number: Of the loops of a function: a name of a module is never given again.
        read_behind: The names that the function reads outside loops by them.

    Returns:
        The loop, or statements in its place.
    """
    place, counted = loop.target, loop.iter
    if not (isinstance(place, ast.Name) and is_call_of("range", counted)) or loop.orelse:
        return loop
    lists = _lists_called(loop, place.id, number)
    if not lists or _assigns(loop.body, place.id):
        return loop
    _Named(lists, place.id).visit(loop)
    names, held = (", ".join(each) for each in (lists.values(), lists))
    first, *others = (f"len({each})" for each in lists)
    code = [f"assert {each} == {first}" for each in others]  # ``zip`` ends with the shortest
    ends, skips = f"ends_{place.id}", f"skips_{place.id}"
    turn, turns = f"turn_{number}", f"turns_{number}"
    asked = []
    if any(map(_jumps, loop.body)):
        asked.append(f"not {ends}")
        code.append(f"{ends} = False")
        loop.body[:0] = statements(f"{skips} = False", loop)
        loop.body = _without_jumps(loop.body, ends, skips)
    count = ast.unparse(counted.args[0])  # type: ignore[attr-defined]  # it is a call
    if _OF_SELF.match(count):  # ``self.depth``: in a frozen script these are constants
        code.append(f"assert {count} == {first}")
    elif count not in {f"len({each})" for each in lists}:
        code += [f"{turns} = {count}", f"assert {turns} <= {first}"]  # none is at a place behind
        asked.append(f"{turn} < {turns}")
        count = turns  # it may be another one after a turn
    if asked:
        if place.id in read_behind:  # it stays where the loop ended
            code += [f"assert 0 < {count}", f"{place.id} = 0"]
        loop.body[:0] = statements(f"{place.id} = {turn}", loop)
        loop.body = [beside(loop, ast.If(parsed(" and ".join(asked), loop), loop.body, []))]
        place = _stored(turn, loop)
    loop.iter = parsed(f"enumerate({f'zip({held})' if len(lists) > 1 else held})", loop)
    loop.target = beside(loop, ast.Tuple([place, _stored(names, loop)], ast.Store()))
    return [*statements("\n".join(code), loop), loop]


def read_outside(node: ast.AST, loops: Set[str] = frozenset()) -> Set[str]:
    """The names that are read outside loops that count by them.

    Args:
        node: A function, or a part of one.
        loops: By what those around it count.
    """
    if isinstance(node, ast.Name):
        return {node.id} - loops if isinstance(node.ctx, ast.Load) else set()
    if isinstance(node, ast.For) and isinstance(node.target, ast.Name):
        loops = loops | {node.target.id}
    parts = (read_outside(each, loops) for each in ast.iter_child_nodes(node))
    return {name for names in parts for name in names}


def _assigns(body: Sequence[ast.stmt], name: str) -> bool:
    """Whether statements, or what is within them, give a name another value."""
    nodes = (node for each in body for node in ast.walk(each))
    return any(
        isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load)
        for node in nodes
    )


class _Named(ast.NodeTransformer):
    """Names what a place of a list holds, where it is called.

    Args:
        lists: By their code, the names.
        place: The name of the place.
    """

    def __init__(self, lists: Mapping[str, str], place: str) -> None:
        self._named = {f"{each}[{place}]": name for each, name in lists.items()}

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if (name := self._named.get(ast.unparse(node.func))) is not None:
            node.func = parsed(name, node)
        return node


def _lists_called(loop: ast.For, place: str, number: int) -> dict[str, str]:
    """Lists of ``self`` of which a loop calls what is at a place, and names for that."""
    calls = (each.func for each in ast.walk(loop) if isinstance(each, ast.Call))
    held = (
        ast.unparse(each.value)
        for each in calls
        if isinstance(each, ast.Subscript) and ast.unparse(each.slice) == place
    )
    return {each: f"{each.replace('.', '_')}_{number}" for each in held if _OF_SELF.match(each)}


def _without_jumps(body: Sequence[ast.stmt], ends: str, skips: str) -> list[ast.stmt]:
    """A turn of a loop that passes over the rest where it would jump.

    Args:
        body: Its statements.
        ends: The variable that is true once the loop has ended.
        skips: The one that is true once the turn has.
    """
    made: list[ast.stmt] = []
    for number, each in enumerate(body):
        if isinstance(each, ast.Break | ast.Continue):
            told = [ends, skips] if isinstance(each, ast.Break) else [skips]
            return [*made, *(statements(f"{name} = True", each)[0] for name in told)]
        made.append(each)
        if isinstance(each, ast.If) and _jumps(each):
            each.body = _without_jumps(each.body, ends, skips)
            each.orelse = _without_jumps(each.orelse, ends, skips)
            rest = _without_jumps(body[number + 1 :], ends, skips)
            if rest:
                made.append(beside(each, ast.If(parsed(f"not {skips}", each), rest, [])))
            return made
    return made


def _jumps(node: ast.AST) -> bool:
    """Whether it holds a jump of the loop that it is in."""
    if isinstance(node, ast.For | ast.While):
        return False
    return isinstance(node, ast.Break | ast.Continue) or any(
        map(_jumps, ast.iter_child_nodes(node))
    )


def _stored(names: str, place: ast.AST) -> ast.expr:
    """What is assigned to: a name, or several."""
    (assigned,) = statements(f"{names} = 0", place)
    target: ast.expr = assigned.targets[0]  # type: ignore[attr-defined]  # it assigns
    return target


_OF_SELF: Final = re.compile(r"self(\.\w+)+$")

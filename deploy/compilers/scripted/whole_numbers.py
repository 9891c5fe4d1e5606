"""Where torch.jit (2.13) makes a whole number of one that need not be: of 0.7 it makes 0.

``if x.max().item():``, ``x.max().item() in [0, 1]`` and an argument of a function that takes an
``int`` do so, where Python keeps the number as it is.
"""

from typing import Any, Final

from edgeport.runtimes.libtorch.script_graph import nodes


def check(graph: Any) -> None:
    """Look for them in the graph of a script, with what it calls inside.

    Raises:
        NotImplementedError: There is one.
    """
    for node in nodes(graph):
        if node.kind() == "aten::Int" and _is_free(node.inputsAt(0)) and _is_asked(node):
            raise NotImplementedError(
                f"torch.jit makes a whole number of what item() gives\n{node.sourceRange()}"
            )


def _is_free(value: Any) -> bool:
    """Whether a number may be one of floats, as far as its type and its operators tell."""
    return value.type().kind() == "NumberType" and not _is_whole(value.node())


def _is_whole(node: Any) -> bool:
    if node.kind() in _KEEPING:
        return _is_whole(node.inputsAt(0).node())
    return node.kind() in _WHOLE


def _is_asked(node: Any) -> bool:
    """Whether Python keeps the number; what torch's own functions are given, it refuses."""
    told = node.sourceRange()
    if _marked(told) == "int":  # so it is written
        return False
    users = [use.user for use in node.output().uses()]
    return any(user.kind() in _ASKING or user.sourceRange() != told for user in users)


def _marked(told: str) -> str:
    """What of the code is marked in a place, as torch tells it."""
    *_, code, marks = ["", *told.partition(" <--- HERE")[0].splitlines()]
    begin = marks.find("~")
    return code[begin : marks.rfind("~") + 1]


_ASKING: Final = {"aten::Bool", "aten::__contains__"}
_WHOLE: Final = {
    *("aten::argmax", "aten::argmin", "aten::count_nonzero", "aten::numel", "aten::bucketize"),
    *("aten::gt", "aten::ge", "aten::lt", "aten::le", "aten::eq", "aten::ne", "aten::isnan"),
    *("aten::any", "aten::all", "aten::logical_and", "aten::logical_or", "aten::logical_not"),
}
_KEEPING: Final = {"aten::item", "aten::sum", "aten::max", "aten::min", "aten::select"}

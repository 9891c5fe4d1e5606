"""Where torch.jit (2.13) takes code, and computes something else than Python.

Of 0.7 it makes the whole number 0: in ``if x.max().item():``, in ``x.max().item() in [0, 1]``, in
``divmod(x.max().item(), 3)`` and for an argument of a function that takes an ``int``. ``y is x``
holds for no two tensors, and ``held["a"] += 1`` puts a new tensor into a dict, where Python adds to
the one that is there. Where lists are returned in another one, it leaves out what a branch writes
into them.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from edgeport.deploy.origins import Origin, origin
from edgeport.runtimes.libtorch.script_graph import nodes


def check(script: Any) -> None:
    """Look for that in the methods of a script, with what they call inside.

    Raises:
        NotImplementedError: There is some.
    """
    for name in script._c._method_names():
        graph = script._c._get_method(name).inlined_graph
        loses = any(map(_holds_lists, graph.outputs()))
        for node in nodes(graph):
            if loses and node.kind() in _WRITES and _is_held(node):
                raise NotImplementedError(f"torch.jit loses what is written\n{node.sourceRange()}")
            differs, told = _DIFFERENCES.get(node.kind(), (None, ""))
            if differs is None or "Serialized " in node.sourceRange():  # eager runs a script too
                continue
            if differs(node):
                raise NotImplementedError(f"torch.jit {told}\n{node.sourceRange()}")


def _is_made_whole(node: Any) -> bool:
    return _is_free(node.inputsAt(0)) and _is_asked(node)


def _is_of_tensors(node: Any) -> bool:
    files = _FILE.findall(node.sourceRange())
    are = all(value.type().kind() == "TensorType" for value in node.inputs())
    return are and any(origin(file) is not Origin.COMPILER for file in files)


def _is_updated(node: Any) -> bool:
    """Whether ``+=`` sets an item of a dict: it has the place of what it sets."""
    held, _, value = node.inputs()
    is_dict, is_tensor = held.type().kind() == "DictType", value.type().kind() == "TensorType"
    return is_dict and is_tensor and bool(value.node().sourceRange() == node.sourceRange())


def _holds_lists(returned: Any) -> bool:
    """Whether there are lists in another list, a tuple or a dict."""
    return any(kind.kind() == "ListType" for kind in _inside(returned.type()))


def _inside(kind: Any) -> Iterator[Any]:
    for held in kind.containedTypes():
        yield held
        yield from _inside(held)


def _is_held(write: Any) -> bool:
    """Whether a branch writes into a list that another one, a tuple or a dict may hold."""
    written, around = next(write.inputs()), write.owningBlock().owningNode()
    while around is not None and around.kind() != "prim::If":
        around = around.owningBlock().owningNode()
    if around is None or written.type().kind() != "ListType":
        return False
    holders = [use.user for use in written.uses() if use.user.kind() in _HOLDING]
    return written.node().kind() in _TAKING or any(map(write.isAfter, holders))


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
    if _marked(told) in ("int", ""):  # so it is written, or has no text left
        return False
    users = [use.user for use in node.output().uses()]
    return any(user.kind() in _ASKING or user.sourceRange() != told for user in users)


def _marked(told: str) -> str:
    """What of the code is marked in a place, as torch tells it."""
    *_, code, marks = ["", "", *told.partition(" <--- HERE")[0].splitlines()]
    begin = marks.find("~")
    return code[begin : marks.rfind("~") + 1]


_WRITES: Final = {
    *("aten::_set_item", "aten::append", "aten::insert", "aten::extend", "aten::pop"),
    *("aten::remove", "aten::reverse", "aten::sort", "aten::clear", "aten::Delete", "aten::add_"),
}
_TAKING: Final = {
    *("aten::__getitem__", "aten::get", "aten::pop"),
    *("prim::TupleIndex", "prim::TupleUnpack", "prim::ListUnpack"),
}
_HOLDING: Final = {
    *("prim::ListConstruct", "prim::TupleConstruct", "prim::DictConstruct"),
    *("aten::append", "aten::insert"),
}
_ASKING: Final = {"aten::Bool", "aten::__contains__", "aten::divmod"}
_WHOLE: Final = {
    *("aten::argmax", "aten::argmin", "aten::count_nonzero", "aten::numel", "aten::bucketize"),
    *("aten::gt", "aten::ge", "aten::lt", "aten::le", "aten::eq", "aten::ne", "aten::isnan"),
    *("aten::any", "aten::all", "aten::logical_and", "aten::logical_or", "aten::logical_not"),
}
_KEEPING: Final = {"aten::item", "aten::sum", "aten::max", "aten::min", "aten::select"}
_FILE: Final = re.compile(r'File "([^"]+)"')
_DIFFERENCES: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "aten::Int": (_is_made_whole, "makes a whole number of what item() gives"),
    "aten::__is__": (_is_of_tensors, "knows no tensor again"),
    "aten::__isnot__": (_is_of_tensors, "knows no tensor again"),
    "aten::_set_item": (_is_updated, "puts a new tensor into a dict"),
}

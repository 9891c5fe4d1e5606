"""The nested shape of a module's result: recorded as JSON, rebuilt on a device with numpy alone.

An artefact answers a flat list of tensors; the module answered a dict, a tuple, a dataclass. What
lies between them is a tree, and a node of it is one of::

    {"output": NAME}                                   a tensor
    {"tuple": [NODE, ...]}
    {"list": [NODE, ...]}
    {"dict": [[KEY, NODE], ...]}                       in order; a key is a str or an int
    {"object": CLASS, "fields": [[NAME, NODE], ...]}   a dataclass, a named tuple, a ModelOutput
    {"constant": null | bool | int | float | str}      no tensor, and always the same
"""

import math
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .errors import FormatError

if TYPE_CHECKING:
    from .inputs import Array

Node: TypeAlias = dict[str, Any]
"""A node, as ``json`` reads it; ``check_structure`` tells whether it is one."""

DEEPEST: Final = 64
"""Levels of nesting: far more than a module has, far fewer than Python's recursion allows."""


def check_structure(node: Node, names: Sequence[str]) -> None:
    """Refuse what is no structure of these outputs.

    Raises:
        FormatError: A node is of no known kind, nests too deeply, or repeats a key; or an output
            is named twice, not at all, or does not exist.
    """
    try:
        found = list(_outputs(node))
    except ValueError as e:
        raise FormatError(
            f"not a structure of outputs: {e}",
            remedy="export the model again; the file was edited or is damaged",
        ) from e
    if sorted(found) != sorted(names):
        raise FormatError(
            f"the structure holds {', '.join(found) or 'no output'}, "
            f"the outputs are {', '.join(names) or 'none'}",
            remedy="name every output once",
        )


def rebuild(node: Node, outputs: Mapping[str, "Array"]) -> object:
    """Nest the outputs as a checked structure says; an object becomes a dict of its fields.

    Raises:
        KeyError: An output is missing.
    """
    match node:
        case {"output": name}:
            return outputs[name]
        case {"tuple": items}:
            return tuple(rebuild(item, outputs) for item in items)
        case {"list": items}:
            return [rebuild(item, outputs) for item in items]
        case {"dict": pairs} | {"fields": pairs}:
            return {key: rebuild(value, outputs) for key, value in pairs}
        case _:
            return node["constant"]


def describe(node: Node) -> str:
    """Write a checked structure as Python would.

    Examples:
        >>> y, z = {"output": "y"}, {"output": "z"}
        >>> print(describe({"dict": [["scores", y], ["rest", {"tuple": [z, {"constant": None}]}]]}))
        {'scores': y, 'rest': (z, None)}
    """
    match node:
        case {"output": name}:
            return str(name)
        case {"tuple": [item]}:
            return f"({describe(item)},)"
        case {"tuple": items}:
            return f"({', '.join(map(describe, items))})"
        case {"list": items}:
            return f"[{', '.join(map(describe, items))}]"
        case {"dict": pairs}:
            return f"{{{', '.join(f'{key!r}: {describe(value)}' for key, value in pairs)}}}"
        case {"object": kind, "fields": pairs}:
            return f"{kind}({', '.join(f'{name}={describe(value)}' for name, value in pairs)})"
        case _:
            return repr(node["constant"])


def _outputs(node: object, depth: int = 1) -> Iterator[str]:
    """The names of the outputs, in order; a ValueError at the first node that is none."""
    if depth > DEEPEST:
        raise ValueError(f"it nests more than {DEEPEST} levels deep")
    match node:
        case {"output": str(name), **rest} if not rest:
            yield name
        case {"tuple": list(items), **rest} | {"list": list(items), **rest} if not rest:
            for item in items:
                yield from _outputs(item, depth + 1)
        case {"dict": list(pairs), **rest} if not rest:
            yield from _values(pairs, _is_key, depth)
        case {"object": str(kind), "fields": list(pairs), **rest} if not rest and _is_name(kind):
            yield from _values(pairs, _is_name, depth)
        case {"constant": value, **rest} if not rest and _is_constant(value):
            pass
        case _:
            raise ValueError(f"{reprlib.repr(node)} is not a node")


def _values(pairs: Sequence[object], fits: Callable[[object], bool], depth: int) -> Iterator[str]:
    seen = set()
    for pair in pairs:
        match pair:
            case [key, value] if isinstance(pair, list) and fits(key) and key not in seen:
                seen.add(key)
                yield from _outputs(value, depth + 1)
            case _:
                raise ValueError(f"{reprlib.repr(pair)} is not a key, used once, and its node")


def _is_key(value: object) -> bool:
    return type(value) in (str, int)  # a bool is no int: 1 and True are one key to a dict


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != "" and value.isprintable()


def _is_constant(value: object) -> bool:
    if type(value) is float:
        return math.isfinite(value)  # JSON has no others
    return value is None or type(value) in (bool, int, str)

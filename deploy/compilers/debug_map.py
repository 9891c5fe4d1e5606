"""A private map from ONNX node to the user's code: which module it belongs to, on which line.

Read from the notes that torch's exporters leave, before they are dropped: they hold paths of the
machine, so the map never goes into an artefact.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import onnx

from edgeport.deploy.origins import origin

from .onnx_messages import label

VERSION: Final = 1
"""Of the JSON that ``dumps`` writes."""

_WRAPPER: Final = "module"
"""The exporter's wrapper holds the user's module under this name."""

_NOTES: Final = "pkg.torch.onnx."  # the dynamo exporter's keys begin with this
_QUOTED: Final = re.compile(r"'([^']*)'")
_PYTHON_FRAME: Final = re.compile(r'File "([^"]+)", line (\d+)')
_TRACE_FRAME: Final = re.compile(r"^(.+)\((\d+)\): ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class NodeOrigin:
    """Where a node comes from.

    Attributes:
        node: Its name, or that of its first output if it has none. Unique in its graph, not in
            the bodies of ``If`` and ``Loop`` and in the functions, which are listed too.
        operator: With its domain, unless that is ONNX's own.
        module: Path of the innermost module, as ``get_submodule`` takes it; ``""`` for the
            outermost one; ``None`` if the exporter lost it (as for frozen TorchScript). The older
            exporter writes a module that is called again with a number, like ``act_1``.
        source: ``file:line``, the innermost in the user's own code, else in a library that is not
            torch, else of all; ``None`` if none was recorded.
    """

    node: str
    operator: str
    module: str | None
    source: str | None


def read_debug_map(model: onnx.ModelProto) -> list[NodeOrigin]:
    """Map every node, also in the bodies of control flow and in local functions.

    Args:
        model: As an exporter of torch wrote it. The older exporter records source lines if it
            runs with ``verbose=True``.
    """
    origins = list(_graph_origins(model.graph.node, module=None))
    for function in model.functions:
        origins += _graph_origins(function.node, module=None)
    return origins


def dumps(origins: Iterable[NodeOrigin]) -> str:
    """Write the map as JSON."""
    nodes = [asdict(origin) for origin in origins]
    return json.dumps({"debug_map_version": VERSION, "nodes": nodes}, indent=2)


def _graph_origins(nodes: Sequence[onnx.NodeProto], module: str | None) -> Iterator[NodeOrigin]:
    """The nodes of a graph and of all bodies in it; what is not known is the enclosing node's."""
    for node in nodes:
        found = _module(node)
        origin = NodeOrigin(*label(node), module if found is None else found, _source(node))
        yield origin
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _graph_origins(body.node, origin.module)


def _module(node: onnx.NodeProto) -> str | None:
    scopes = _note(node, "name_scopes")
    if scopes is not None:
        # ['', 'module', 'module.layers', 'module.layers.0', 'relu']: the last one is the operator
        modules = _QUOTED.findall(scopes)[:-1]
        return _unwrapped(modules[-1]) if modules else None
    if node.name.startswith("/"):
        # /module/layers/layers.0/Relu: a child of a Sequential repeats its parent's name; a list
        # ``layers`` in a module ``layers`` reads the same, and is taken for the former
        path: list[str] = []
        for name in node.name.split("/")[1:-1]:
            if path and name.startswith(f"{path[-1]}."):
                path.pop()
            path.append(name)
        return _unwrapped(".".join(path)) if path else None
    return None


def _unwrapped(path: str) -> str:
    outermost, _, rest = path.partition(".")
    return rest if outermost == _WRAPPER else path


def _source(node: onnx.NodeProto) -> str | None:
    trace = _note(node, "stack_trace") or node.doc_string
    frames = _PYTHON_FRAME.findall(trace)  # outermost first
    frames = frames or _TRACE_FRAME.findall(trace)[::-1]  # innermost first
    files = [frame for frame in frames[::-1] if not frame[0].startswith("<")]  # generated code
    if not files:
        return None
    file, line = min(files, key=lambda frame: origin(frame[0]))  # the first of equals
    return f"{file}:{line}"


def _note(node: onnx.NodeProto, name: str) -> str | None:
    key = f"{_NOTES}{name}"
    return next((note.value for note in node.metadata_props if note.key == key), None)

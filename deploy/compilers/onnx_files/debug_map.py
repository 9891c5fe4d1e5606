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


@dataclass(frozen=True, slots=True)
class NodeOrigin:
    """Where a node comes from.

    Attributes:
        node: Its name, or that of its first output if it has none. Unique in its graph, not in
            the bodies of ``If`` and ``Loop`` and in the functions, which are listed too.
        operator: With its domain, unless that is ONNX's own.
        module: Path of the innermost module, as ``get_submodule`` takes it; ``""`` for the
            outermost one; ``None`` if the exporter lost it (as for frozen TorchScript).
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
        model: As torch's exporter wrote it.
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
    # ['', 'module', 'module.layers', 'module.layers.0', 'relu']: the last one is the operator
    modules = _QUOTED.findall(scopes or "")[:-1]
    return _unwrapped(modules[-1]) if modules else None


def _unwrapped(path: str) -> str:
    outermost, _, rest = path.partition(".")
    return rest if outermost == _WRAPPER else path


def _source(node: onnx.NodeProto) -> str | None:
    frames = _PYTHON_FRAME.findall(_note(node, "stack_trace") or "")  # outermost first
    files = [frame for frame in frames[::-1] if not frame[0].startswith("<")]  # generated code
    if not files:
        return None
    file, line = min(files, key=lambda frame: origin(frame[0]))  # the first of equals
    return f"{file}:{line}"


def _note(node: onnx.NodeProto, name: str) -> str | None:
    key = f"{_NOTES}{name}"
    return next((note.value for note in node.metadata_props if note.key == key), None)

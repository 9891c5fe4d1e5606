"""What engines are built from has no conditions: TensorRT takes no axis that values decide."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import onnx
from onnx import TensorProto

from edgeport.deploy.compilers.onnx_files.onnx_messages import of_kind
from edgeport.runtimes import files
from edgeport.runtimes.run_failures import ANOTHER_WAY


@contextlib.contextmanager
def without_conditions(path: Path) -> Iterator[Path]:
    """The file, or one for the time being that answers what this one refuses.

    Raises:
        StorageError: It cannot be written.
    """
    model = onnx.load(path, load_external_data=False)
    if not any(map(_hangs, of_kind("NodeProto", model.graph))):
        yield path
        return
    model.graph.initializer.append(onnx.helper.make_tensor(_FIRST, TensorProto.INT64, [1], [0]))
    _let_go(model.graph)
    bare = path.with_name(f"{path.stem}.bare{path.suffix}")  # weights are beside it
    files.write(bare, model.SerializeToString())
    try:
        yield bare
    finally:
        bare.unlink(missing_ok=True)


def _hangs(node: onnx.NodeProto) -> bool:
    return node.name.startswith(ANOTHER_WAY)


def _let_go(graph: onnx.GraphProto) -> None:
    """Let nodes take that axis off which was put on before them, whatever holds.

    Args:
        graph: The whole, or a side of a branch, or a turn of a loop.
    """
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _let_go(attribute.g)
        if _hangs(node):
            node.input[1] = _FIRST
    used = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if not used.isdisjoint(node.output):
            kept.append(node)
            used.update(name for each in of_kind("NodeProto", node) for name in each.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))


_FIRST: Final = "first_axis"

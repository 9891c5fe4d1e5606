"""What engines are built from has no conditions: TensorRT takes no axis that values decide."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import onnx

from edgeport.deploy.compilers.onnx_messages import of_kind
from edgeport.runtimes import files
from edgeport.runtimes.run_failures import ANOTHER_WAY


@contextlib.contextmanager
def without_conditions(path: Path) -> Iterator[Path]:
    """The file, or one for the time being that answers what this one refuses.

    Raises:
        StorageError: It cannot be written.
    """
    model = onnx.load(path, load_external_data=False)
    hanging = [node for node in model.graph.node if node.name.startswith(ANOTHER_WAY)]
    if not hanging:
        yield path
        return
    _let_go(model.graph, hanging)
    bare = path.with_name(f"{path.stem}.bare{path.suffix}")  # weights are beside it
    files.write(bare, model.SerializeToString())
    try:
        yield bare
    finally:
        bare.unlink(missing_ok=True)


def _let_go(graph: onnx.GraphProto, hanging: list[onnx.NodeProto]) -> None:
    """Make identities of nodes that take an axis off which was put on before them."""
    makers = {output: node for node in graph.node for output in node.output}
    for node in hanging:
        before = makers[node.input[0]]
        if before.op_type == "Unsqueeze":
            node.op_type = "Identity"
            node.input[:] = [before.input[0]]
    used = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if not used.isdisjoint(node.output):
            kept.append(node)
            used.update(name for each in of_kind("NodeProto", node) for name in each.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))

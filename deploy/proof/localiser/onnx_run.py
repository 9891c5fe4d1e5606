"""Run an ONNX file so that every value in it is seen, a few at a time."""

import contextlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from edgeport.deploy.compilers.onnx_files.onnx_messages import label
from edgeport.runtimes import EngineError
from edgeport.runtimes.errors import first_line
from edgeport.runtimes.inputs import Array

from .trace import Trace, Value, keep

LEVELS: Final[Mapping[str, str]] = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
"""ONNX Runtime's graph optimisation levels, by the names of its documentation."""

_FAILED: Final = re.compile(r"Name:'([^']+)'")
_PROVIDERS: Final = ["CPUExecutionProvider"]
_LARGEST_IN_MEMORY: Final = 2**30
"""Bytes of a model that is given to ONNX Runtime without a file."""


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """A model, its weights where they are.

    Attributes:
        model: Without the content of external weights.
        folder: Where external weights are.
    """

    model: onnx.ModelProto
    folder: Path

    @classmethod
    def read(cls, path: Path) -> "OnnxFile":
        """Read a file; local functions are put in the place of their calls."""
        model = onnx.load(path, load_external_data=False)
        if model.functions:
            from onnx import inliner

            model = inliner.inline_local_functions(model)
        return cls(model, path.parent)

    def weight(self, tensor: onnx.TensorProto) -> Array:
        """The elements of an initializer."""
        array: Array = numpy_helper.to_array(tensor, str(self.folder))
        return array

    @property
    def external(self) -> bool:
        """Whether weights are in another file."""
        return any(map(uses_external_data, self.model.graph.initializer))


def run_outputs(
    file: OnnxFile,
    names: Sequence[str],
    inputs: Mapping[str, Array],
    level: str = "disable",
    optimised: Path | None = None,
) -> dict[str, Array]:
    """Run a model and return these of its values; what is no tensor is left out.

    Args:
        file: The model; the list of its outputs is changed while it runs.
        names: Of any values in the main graph.
        inputs: By name; what the model does not take is ignored.
        level: A key of ``LEVELS``.
        optimised: Where to write the graph as ONNX Runtime rewrote it.

    Raises:
        EngineError: ONNX Runtime refused the model, or failed.
    """
    with open_outputs(file, names, level, optimised) as session:
        feed = {entry.name: inputs[entry.name] for entry in session.get_inputs()}
        try:
            found = session.run(list(names), feed)
        except Exception as e:  # ONNX Runtime's exceptions have no common base
            raise _refused(e) from e
    return {n: a for n, a in zip(names, found, strict=True) if isinstance(a, np.ndarray)}


@contextlib.contextmanager
def open_outputs(
    file: OnnxFile, names: Sequence[str], level: str = "disable", optimised: Path | None = None
) -> Iterator[Any]:
    """A session of ONNX Runtime that answers these values; arguments as of ``run_outputs``.

    Raises:
        EngineError: ONNX Runtime refused the model.
    """
    import onnxruntime  # whoever exports no ONNX may not have it

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[level])
    settings.intra_op_num_threads = 1  # as in a proof
    settings.log_severity_level = 4
    if optimised is not None:
        settings.optimized_model_filepath = str(optimised)
    with _asking(file, names), _opened(file, settings) as session:
        yield session


@contextlib.contextmanager
def _opened(file: OnnxFile, settings: Any) -> Iterator[Any]:
    """A session, and the temporary folder that its model may need."""
    import onnxruntime

    with contextlib.ExitStack() as stack:
        source: bytes | str
        if file.external or file.model.ByteSize() > _LARGEST_IN_MEMORY:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            source = _write_beside(file, Path(folder))
        else:
            source = file.model.SerializeToString()
        try:
            session = onnxruntime.InferenceSession(source, settings, providers=_PROVIDERS)
        except Exception as e:  # ONNX Runtime's exceptions have no common base
            raise _refused(e) from e
        yield session


def _write_beside(file: OnnxFile, folder: Path) -> str:
    """Write a model into a folder that its external weights are linked into."""
    for tensor in file.model.graph.initializer:
        if uses_external_data(tensor):
            location = ExternalDataInfo(tensor).location
            link = folder / location
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.hardlink_to((file.folder / location).resolve())
    path = folder / "model.onnx"
    onnx.save(file.model, path)
    return str(path)


def _refused(error: Exception) -> EngineError:
    return EngineError(
        f"ONNX Runtime failed: {first_line(error)}", remedy="open the file with onnxruntime alone"
    )


@contextlib.contextmanager
def _asking(file: OnnxFile, names: Iterable[str]) -> Iterator[None]:
    """The model has other outputs inside the block; ONNX Runtime finds their types itself."""
    outputs = file.model.graph.output
    before = list(outputs)
    declared = {value.name: value for value in before}
    del outputs[:]
    outputs.extend(declared.get(name) or onnx.ValueInfoProto(name=name) for name in names)
    try:
        yield
    finally:
        del outputs[:]
        outputs.extend(before)


def trace_onnx(
    file: OnnxFile,
    inputs: Mapping[str, Array],
    limit: int,
    chunk: int,
    modules: Mapping[str, str],
) -> Trace:
    """Run a model as it is written, and note every value of its main graph.

    Args:
        file: What to run.
        inputs: By name.
        limit: How many elements of a value are kept.
        chunk: How many values are asked for in one run.
        modules: Node name -> module path, where an exporter noted it.

    Raises:
        EngineError: ONNX Runtime refused the model, or failed.
    """
    failure, failed = "", None
    try:
        arrays, shapes = _all_arrays(file, inputs, limit, chunk)
    except EngineError as e:
        place = _failed_node(file, e)
        if place is None:
            raise
        failure, failed = e.problem, label(file.model.graph.node[place])
        file = _before(file, place)
        arrays, shapes = _all_arrays(file, inputs, limit, chunk)
    graph = file.model.graph
    nodes = [node for node in graph.node if node.op_type != "Constant"]
    values: list[Value] = []
    numbers: dict[str, int] = {}

    def add(name: str, value: Value) -> None:
        numbers[name] = value.number
        values.append(value)

    def root(name: str, array: Array, *, varies: bool) -> None:
        kept = keep(_plain(array), limit)
        add(name, Value(len(values), "", name, (), varies, array.shape, kept))

    for entry in graph.input:
        if entry.name in inputs:
            root(entry.name, inputs[entry.name], varies=True)
    for tensor in graph.initializer:
        root(tensor.name, file.weight(tensor), varies=False)
    for name, array in _constants(file):
        root(name, array, varies=False)
    for node in nodes:
        sources = tuple(dict.fromkeys(numbers[n] for n in read_by(node) if n in numbers))
        varies = any(values[source].varies for source in sources)
        node_name, operator = label(node)
        module = modules.get(node_name)
        for name in node.output:
            if name in arrays:
                add(
                    name,
                    Value(
                        len(values), operator, node_name, sources, varies, shapes[name],
                        arrays[name], module=module, call=name,
                    ),
                )  # fmt: skip  # one value
    outputs = {} if failed else {e.name: numbers[e.name] for e in graph.output}
    return Trace(values, outputs, failure, failed)


def _all_arrays(
    file: OnnxFile, inputs: Mapping[str, Array], limit: int, chunk: int
) -> tuple[dict[str, Array], dict[str, tuple[int, ...]]]:
    """The kept elements of every value, and its shape."""
    nodes = (node for node in file.model.graph.node if node.op_type != "Constant")
    asked = [name for node in nodes for name in node.output if name]
    arrays: dict[str, Array] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for start in range(0, len(asked), chunk):
        names = asked[start : start + chunk]
        for name, array in run_outputs(file, names, inputs).items():
            arrays[name], shapes[name] = keep(_plain(array), limit), array.shape
    return arrays, shapes


def _failed_node(file: OnnxFile, error: EngineError) -> int | None:
    """The place of the node that ONNX Runtime says it failed at."""
    named = _FAILED.search(error.problem)
    names = [node.name for node in file.model.graph.node]
    return names.index(named[1]) if named and named[1] in names else None


def _before(file: OnnxFile, place: int) -> OnnxFile:
    """The model without that node, and all after it."""
    cut = onnx.ModelProto()
    cut.CopyFrom(file.model)
    del cut.graph.node[place:]
    return OnnxFile(cut, file.folder)


def _plain(array: Array) -> Array:
    """What numpy can subtract; strings and ONNX's own number formats are not compared."""
    return array if array.dtype.kind in "fiub" else np.zeros(0, np.float32)


def _constants(file: OnnxFile) -> Iterator[tuple[str, Array]]:
    for node in file.model.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                found = _constant(file, attribute)
                if found is not None:
                    yield node.output[0], found


def _constant(file: OnnxFile, attribute: onnx.AttributeProto) -> Array | None:
    if attribute.name == "value":
        return file.weight(attribute.t)
    if attribute.name in ("value_float", "value_int", "value_floats", "value_ints"):
        return np.asarray(onnx.helper.get_attribute_value(attribute))
    return None


def read_by(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads, also those that its bodies read from around it."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            own = {value.name for value in (*body.input, *body.initializer)}
            for inner in body.node:
                yield from (name for name in read_by(inner) if name not in own)
                own.update(inner.output)

"""The process that builds an engine; ``building`` starts it.

TensorRT may crash, take minutes, or open the GPU, which a fork of a process that has opened it
cannot do. So this is a fresh interpreter: it gets an order over a socket, tells how far it is, and
answers with what came of it, or with the error that it met.
"""

from __future__ import annotations

import re
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from edgeport.runtimes import files
from edgeport.runtimes.errors import ContractError, EdgeportError
from edgeport.runtimes.safety.forked import end_with_parent, limit_growth
from edgeport.runtimes.signature import TensorSpec

from .failures import explain
from .library import Library, Message, load
from .order import Built, Order, Problem, Progress, Refused
from .tensors import ANSWERED, carry

_EVERY_S: Final = 0.1

_DTYPES: Final = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}
"""Of the names that differ from numpy's."""

_PARSING: Final = re.compile(r"(?:Static check for p|P)arsing node: (.*) \[(\w+)\]")
_NO_NEWS: Final = ("catchCudaError", "Thread context has not been set", "error reading CUDA GPU")
"""Where there is no GPU, every error is followed by one that says so; it is not the reason."""


def serve(handle: int, memory_bytes: int | None) -> None:
    """Take one order and answer it."""
    end_with_parent()
    with Connection(handle) as connection:
        order: Order = connection.recv()
        try:
            library = load(order.library)
            if memory_bytes is not None:
                limit_growth(memory_bytes)
            connection.send(make(order, library, connection))
        except EdgeportError as e:
            connection.send(e)


def make(order: Order, library: Library, tell: Connection) -> Built | Refused:
    """Parse the model, check it against the signature, build, and write the engine.

    Raises:
        BackendMissingError: The library cannot build here.
        ContractError: The network takes or gives something else than the signature says, or an
            option does not take.
        StorageError: The engine, or the timing cache, cannot be written.
    """
    trt = library.module
    with library.listening() as heard:
        builder = _builder(library, heard)
        network = _network(trt, builder)
        parser = trt.OnnxParser(network, library.logger)
        if not parser.parse_from_file(order.onnx):
            return Refused("parse", _parser_problems(library, builder, order, parser))
        check_network(library, network, order)
        network.name = carry(order.signature, order.precision) or network.name
        config = builder.create_builder_config()
        configure(library, config, order)
        config.progress_monitor = monitor = _monitor(trt, tell)
        shaping = _add_profile(builder, network, config, order)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            return Refused("build", tuple(Problem(text) for text in _reasons(heard)))
        _write(order, config, engine)
        del monitor  # TensorRT keeps no reference to it
    warnings = dict.fromkeys(each.text for each in heard if each.level == "warning")
    return Built(library.version, shaping, tuple(warnings))


def _builder(library: Library, heard: list[Message]) -> Any:
    try:
        return library.module.Builder(library.logger)
    except Exception as e:  # pybind11's: "factory function returned nullptr"
        raise explain(library, heard, "build engines here") from e


def _network(trt: Any, builder: Any) -> Any:
    """Strongly typed: what is float32 in the graph is computed in float32."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return builder.create_network(0 if flag is None else 1 << int(flag))


def _parser_problems(
    library: Library, builder: Any, order: Order, failed: Any
) -> tuple[Problem, ...]:
    """Every node that is refused, with its name, which some errors of the parser lack."""
    errors = [failed.get_error(index) for index in range(failed.num_errors)]
    if all(error.node_name() for error in errors):
        return tuple(_problem(error) for error in errors)
    network = _network(library.module, builder)  # named: the parser does not keep it alive
    parser = library.module.OnnxParser(network, library.logger)
    with library.listening("verbose") as heard:
        parser.supports_model_v2(Path(order.onnx).read_bytes(), order.onnx)
    parsed = [found for each in heard if (found := _PARSING.fullmatch(each.text))]
    last = parsed[-1].groups() if parsed else (None, None)
    return tuple(
        _problem(error) if error.node_operator() else Problem(_plain(error.desc()), *last)
        for error in errors
    )


def _problem(error: Any) -> Problem:
    return Problem(_plain(error.desc()), error.node_name() or None, error.node_operator() or None)


def check_network(library: Library, network: Any, order: Order) -> None:
    """Compare what TensorRT understood with what was asked for.

    Raises:
        ContractError: A name, dtype or size differs.
    """
    for what, count, get, specs in (
        ("input", network.num_inputs, network.get_input, order.signature.inputs),
        ("output", network.num_outputs, network.get_output, order.signature.outputs),
    ):
        found = {tensor.name: tensor for tensor in map(get, range(count))}
        found.pop(ANSWERED, None)
        if set(found) != {spec.name for spec in specs}:
            raise ContractError(
                f"asked for the {what}s {', '.join(spec.name for spec in specs)}, "
                f"{library} has {', '.join(found) or 'none'}",
                remedy="give every input a use in forward, or don't declare it",
            )
        for spec in specs:
            _check_tensor(library, what, found[spec.name], spec)


def _check_tensor(library: Library, what: str, tensor: Any, spec: TensorSpec) -> None:
    dtype = dtype_name(tensor.dtype)
    shape = tuple(tensor.shape)
    fits = len(shape) == len(spec.shape) and all(
        size in (asked, -1) if isinstance(asked, int) else size == -1
        for size, asked in zip(shape, spec.shape, strict=True)
    )
    if dtype != spec.dtype or not fits:
        sizes = ", ".join("?" if size == -1 else str(size) for size in shape)
        raise ContractError(
            f"asked for the {what} {spec}, {library} has {dtype}[{sizes}]",
            remedy="convert it in forward to a dtype that TensorRT has, or declare the size fixed",
        )


def dtype_name(dtype: Any) -> str:
    """As numpy names a dtype of TensorRT."""
    name: str = dtype.name
    return _DTYPES.get(name, name.lower())


def configure(library: Library, config: Any, order: Order) -> None:
    """Set what was asked, and see that it took.

    Raises:
        ContractError: An option did not take.
    """
    trt, options = library.module, order.options
    if hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)  # it is on by default, and rounds to 10 bits
    if options.refit:
        config.set_flag(trt.BuilderFlag.REFIT)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.workspace_bytes is not None:
        pool = trt.MemoryPoolType.WORKSPACE
        config.set_memory_pool_limit(pool, options.workspace_bytes)
        _took(library, "workspace", options.workspace_bytes, config.get_memory_pool_limit(pool))
    if options.compute_capabilities:
        asked = options.compute_capabilities
        config.num_compute_capabilities = len(asked)
        for index, text in enumerate(asked):
            config.set_compute_capability(capability(trt, text), index)
        got = [config.get_compute_capability(index).name for index in range(len(asked))]
        _took(library, "compute capabilities", [capability(trt, each).name for each in asked], got)
    if options.timing_cache is not None:
        _read_timing_cache(config, Path(options.timing_cache))


def capability(trt: Any, text: str) -> Any:
    """TensorRT-RTX's own name of a compute capability: ``SM86`` of ``8.6``."""
    return getattr(trt.ComputeCapability, f"SM{text.replace('.', '')}")


def _took(library: Library, what: str, asked: object, got: object) -> None:
    if asked != got:
        raise ContractError(
            f"asked for the {what} {asked}, {library} took {got}",
            remedy="leave the option out, or use another release",
        )


def _read_timing_cache(config: Any, path: Path) -> None:
    """One that is damaged, or of another version or GPU, is begun anew: it only saves time."""
    data = path.read_bytes() if path.exists() else b""
    cache = config.create_timing_cache(data) or config.create_timing_cache(b"")
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _add_profile(builder: Any, network: Any, config: Any, order: Order) -> tuple[str, ...]:
    """Say for which sizes the engine is built.

    Returns:
        The inputs whose values are sizes.
    """
    profile = builder.create_optimization_profile()
    shaping = []
    for tensor in (network.get_input(index) for index in range(network.num_inputs)):
        if -1 in tuple(tensor.shape):
            shapes = order.shapes[tensor.name]
            profile.set_shape(tensor.name, shapes.min, shapes.opt, shapes.max)
        if tensor.is_shape_tensor:
            values = order.values[tensor.name]
            profile.set_shape_input(tensor.name, values.min, values.opt, values.max)
            shaping.append(tensor.name)
    config.add_optimization_profile(profile)  # -1 for a bad one: the build says why
    return tuple(shaping)


def _write(order: Order, config: Any, engine: Any) -> None:
    with files.new_file(Path(order.engine)) as file:
        file.write(memoryview(engine))
    if order.options.timing_cache is not None:
        cache = config.get_timing_cache().serialize()
        files.write(Path(order.options.timing_cache), bytes(memoryview(cache)))


def _reasons(heard: list[Message]) -> list[str]:
    """What went wrong, in the order in which it did."""
    errors = [_plain(each.text) for each in heard if each.level == "error"]
    telling = [text for text in errors if not any(part in text for part in _NO_NEWS)]
    return list(dict.fromkeys(telling or errors)) or ["it gave no reason"]


_NOISE: Final = re.compile(
    r"^Invalid Node - .*\n"
    r"|^I\w+::\w+: Error Code \d+: (?:API Usage Error|Internal Error|Myelin) "
    r"|\[\w+\.(?:cpp|h):\d+: ~?\w+\] | In \w+ at /?[\w/.]+:\d+|\n\[checkMacros(?:.|\n)*",
    re.MULTILINE,
)


_INFERRED: Final = re.compile(
    r"Error during shape inference of\n.*?, name=(\S+)\nError is:\n(.+?)(?:[;\n](?:.|\n)*)?\Z"
)
"""What follows is of nodes that take what this one gives."""


def _plain(text: str) -> str:
    r"""A message of TensorRT without the places in its own source.

    Examples:
        >>> _plain("IBuilder::build: Error Code 4: API Usage Error (no. In x at /_src/a.cpp:2)")
        'no.'
        >>> _plain("Error during shape inference of\ny = a, name=n_U1\nError is:\nIt differs.")
        'It differs. (n_U1)'
    """
    short = _NOISE.sub("", text).strip()
    short = _INFERRED.sub(r"\2 (\1)", short)
    return short[1:-1].strip() if short.startswith("(") and short.endswith(")") else short


def _monitor(trt: Any, connection: Connection) -> Any:
    """Tells how far the build is; one whose reader has gone ends the build."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # of a module that is known by name
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)  # pybind11 wants it by name
            self._phases = Phases()
            self._lock = threading.Lock()  # TensorRT calls from several threads
            self._told_at = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._phases.start(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._phases.finish(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                self._phases.step(phase_name, step)
                now = time.monotonic()
                if now - self._told_at < _EVERY_S:
                    return True
                self._told_at = now
                try:
                    connection.send(Progress(self._phases.done, phase_name))
                except OSError:
                    return False
                return True

    return Monitor()


class Phases:
    """The phases of a build, which nest.

    Examples:
        >>> phases = Phases()
        >>> phases.start("build", None, 2)
        >>> phases.start("optimise", "build", 4)
        >>> phases.step("optimise", 0)
        >>> phases.done
        0.125
    """

    def __init__(self) -> None:
        self._open: dict[str, tuple[str | None, int, int]] = {}
        self._best = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins, inside another or on its own."""
        self._open[name] = (parent, max(steps, 1), 0)

    def finish(self, name: str) -> None:
        """It ends, and what is inside it; a step of its parent is reported apart."""
        self._open.pop(name, None)

    def step(self, name: str, index: int) -> None:
        """The step of that number, from 0, is complete."""
        if name in self._open:
            parent, steps, _ = self._open[name]
            self._open[name] = (parent, steps, min(index + 1, steps))

    @property
    def done(self) -> float:
        """A part of 1, which never shrinks."""
        roots = [name for name, (parent, _, _) in self._open.items() if parent is None]
        self._best = max([self._best, *map(self._part, roots)])
        return self._best

    def _part(self, name: str) -> float:
        _, steps, done = self._open[name]
        inner = [self._part(n) for n, (parent, _, _) in self._open.items() if parent == name]
        return min(1.0, (done + max(inner, default=0.0)) / steps)

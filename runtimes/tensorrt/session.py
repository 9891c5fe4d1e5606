"""Run an engine of TensorRT or TensorRT-RTX behind the session protocol."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from edgeport.runtimes.cuda.device import Context
from edgeport.runtimes.devices import cuda_index, require_no_forced_tf32
from edgeport.runtimes.errors import BackendMissingError, EdgeportError, UsageError
from edgeport.runtimes.inputs import Array, InputCheck
from edgeport.runtimes.outputs import OutputCheck
from edgeport.runtimes.run_failures import ANOTHER_WAY, run_failure
from edgeport.runtimes.session import Closes, EngineInfo, Options, closed
from edgeport.runtimes.timed_parts import Parts

from .api import ICudaEngine, Runtime
from .failures import explain
from .lane import Lane
from .library import Library
from .profile import Profile
from .tensors import ANSWERED, Tensors, precision_of, read, signature


class TensorRTSession(Closes):
    """An engine, opened. Safe to share between threads.

    Each call has a lane for itself: a context of the engine, a stream and memory. Threads take
    them from a list, and put them back (``list.pop`` and ``list.append`` are atomic), so there are
    as many as there were calls at once. TensorRT lets contexts share the profile and the weights.

    Args:
        library: TensorRT or TensorRT-RTX.
        path: The engine's file.
        options: What the caller asks. The precision is in the engine, and the graph is as it is.

    Raises:
        UsageError: The options ask for what an engine does not have.
        BackendMissingError: There is no GPU, its driver is too old, or the engine was built for
            another GPU or version.
        EngineError: It is no engine, or memory is short.
        ContractError: It does not declare the signature that was asked for.
    """

    def __init__(self, library: Library, path: Path, options: Options) -> None:
        _refuse_options(library, options)
        name = options.name or str(path)
        self._library, self._name = library, name
        self._cuda = _gpu(library, name, cuda_index(options.device))
        engine = _deserialise(library, self._cuda, path.read_bytes(), name)
        tensors = _tensors(library, engine, name)
        self.signature = signature(path, tensors, engine.name, options)
        self._tensors = tensors.like(self.signature)
        self._engine: ICudaEngine | None = engine
        self._check = InputCheck(self.signature)
        self._check_outputs = OutputCheck(self.signature)
        self._profile = Profile.of(self.signature.inputs, self._tensors.inputs)
        self._lanes: list[Lane] = []
        self._lanes.append(self._lane(engine))  # so that memory is short now, not in a call
        device = self._cuda.device
        major, minor = device.compute_capability
        self.engine = EngineInfo(
            backend=library.name,
            engine=library.title,
            version=library.version,
            provider=f"{device.name} (compute capability {major}.{minor})",
            device=f"cuda:{device.index}",
            precision=precision_of(engine.name, self.signature),
            threads=1,
        )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute every output.

        Raises:
            InputError: An input does not fit the signature, or the engine's optimisation profile.
            ValuesError: It takes another way through forward than the engine has.
            EngineError: TensorRT or CUDA failed, an output does not fit the signature, or the
                session is closed.
        """
        arrays = self._arrays(inputs)
        lane = self._take()
        try:
            outputs = lane.run(arrays)
        except BaseException:
            lane.close()
            raise
        self._put_back(lane)
        if not outputs.pop(ANSWERED, True):
            raise run_failure(self._library.name, ANOTHER_WAY)
        self._check_outputs(arrays, outputs)
        return outputs

    def timed_parts(self, inputs: Mapping[str, Array]) -> Parts:
        """Do what ``run`` does once, and tell what each step took on the GPU.

        Raises:
            InputError: An input does not fit the signature, or the engine's optimisation profile.
            EngineError: TensorRT or CUDA failed, or the session is closed.
        """
        arrays = self._arrays(inputs)
        with self._borrowed() as lane:
            return lane.times(arrays)

    @contextlib.contextmanager
    def engine_call(self, inputs: Mapping[str, Array]) -> Iterator[Callable[[], object]]:
        """Show TensorRT's own call, inputs and outputs on the GPU, to be timed beside ``run``.

        Raises:
            InputError: An input does not fit the signature, or the engine's optimisation profile.
            EngineError: TensorRT or CUDA failed, or the session is closed.
        """
        arrays = self._arrays(inputs)
        with self._borrowed() as lane:
            yield lane.resident(arrays)

    def close(self) -> None:
        """Give the GPU's memory back; calls that are under way end first."""
        self._engine = None
        while self._lanes:
            with contextlib.suppress(IndexError):  # another thread was quicker
                self._lanes.pop().close()

    def _arrays(self, inputs: Mapping[str, Array]) -> list[Array]:
        arrays = self._check(inputs)
        self._profile.check(arrays)
        return arrays

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[Lane]:
        """A lane that no other call has; ``run`` does the same, without a generator's cost."""
        lane = self._take()
        try:
            yield lane
        except BaseException:
            lane.close()
            raise
        self._put_back(lane)

    def _take(self) -> Lane:
        engine = self._engine
        if engine is None:
            raise closed()
        try:
            return self._lanes.pop()
        except IndexError:  # other calls have them all
            return self._lane(engine)

    def _put_back(self, lane: Lane) -> None:
        self._lanes.append(lane)
        if self._engine is None:  # closed meanwhile
            self.close()

    def _lane(self, engine: ICudaEngine) -> Lane:
        return Lane(self._library, engine, self._tensors, self._cuda, self._name)


def _refuse_options(library: Library, options: Options) -> None:
    if not options.spinning:
        raise UsageError(
            f"backend {library.name!r} cannot be told how its idle threads wait",
            remedy="leave spinning as it is: it is a choice of ort-cpu",
        )
    if options.gpu.tf32 or options.gpu.memory_bytes is not None:
        raise UsageError(
            f"backend {library.name!r} cannot be told how to compute or how much memory to take: "
            "that was settled when the engine was built",
            remedy="leave tf32 and the limit of memory out: they are choices of ort-cuda",
        )
    require_no_forced_tf32()


def _gpu(library: Library, name: str, index: int) -> Context:
    try:
        return Context(index)
    except BackendMissingError as e:
        raise BackendMissingError(
            f"{library} cannot open {name}: {e.problem}", remedy=e.remedy
        ) from e


def _tensors(library: Library, engine: ICudaEngine, name: str) -> Tensors:
    with library.listening("error") as heard:
        try:
            return read(engine, name)
        except EdgeportError:
            raise
        except Exception as e:  # whatever pybind11 makes of an error of TensorRT
            raise explain(library, heard, f"tell what {name} takes and gives") from e


def _deserialise(library: Library, context: Context, data: bytes, name: str) -> ICudaEngine:
    with context.current(), library.listening() as heard:
        try:
            runtime: Runtime = library.module.Runtime(library.logger)
            # one that is version-compatible brings its runtime; every engine is code (NVIDIA's
            # "Engine Deserialization and the Trust Boundary")
            runtime.engine_host_code_allowed = library.name == "tensorrt"
            engine = runtime.deserialize_cuda_engine(data)
        except Exception as e:  # pybind11's "factory function returned nullptr"
            raise explain(library, heard, f"open {name}") from e
        if engine is None:
            raise explain(library, heard, f"open {name}")
    return engine

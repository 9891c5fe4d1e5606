"""What one thread needs to run an engine: a context, a stream, memory on both sides.

A call writes its inputs into pinned memory, side by side, moves them with one copy, runs, and
moves all outputs back with one copy. Shapes and addresses are told to TensorRT only when a shape
differs from the last call's.
"""

import contextlib
import itertools
import weakref
from collections.abc import Callable, Sequence

from edgeport.runtimes.cuda.device import Context
from edgeport.runtimes.cuda.stream import Event, Stream
from edgeport.runtimes.errors import EdgeportError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.timed_parts import Parts

from .api import ICudaEngine, IExecutionContext, IRuntimeConfig
from .bound_inputs import BoundInputs
from .bound_outputs import BoundOutputs
from .failures import RefusedError, explain
from .library import Library, Message
from .tensors import Tensors


class Lane:
    """One context of an engine, for one thread at a time.

    Args:
        library: That opened the engine.
        engine: The engine.
        tensors: Its inputs and outputs, in the order of the signature.
        context: The GPU it is on.
        name: What to call the engine in an error.

    Raises:
        EngineError: The GPU has not enough memory for it.
    """

    def __init__(
        self, library: Library, engine: ICudaEngine, tensors: Tensors, context: Context, name: str
    ) -> None:
        self._library, self._cuda, self._name = library, context, name
        self._at_work = _Work(self)
        self._stream = Stream(context)
        self._inputs = BoundInputs(tensors.inputs, context)
        self._outputs = BoundOutputs(library.module, (*tensors.outputs, *tensors.answered), context)
        self._shapes: list[tuple[int, ...]] | None = None
        self._heard, self._stop_listening = _listen(library, self)
        self._execution: IExecutionContext | None = None
        with self._at_work:
            self._config = _config(library, engine)
            self._execution = (
                engine.create_execution_context(self._config)
                if self._config
                else engine.create_execution_context()
            )
            if self._execution is None:
                raise RefusedError(f"make a context for {name}")

    def run(self, arrays: Sequence[Array]) -> dict[str, Array]:
        """Compute every output, ``ANSWERED`` too if the engine has it.

        Args:
            arrays: Inputs in the order of the signature, which fit it and the profile.

        Raises:
            EngineError: TensorRT or CUDA failed: close this lane.
        """
        with self._at_work:
            self._prepare(arrays)
            self._inputs.upload(self._stream)
            self._enqueue()
            self._outputs.download(self._stream)
            self._stream.wait()
            return self._outputs.collect()

    def times(self, arrays: Sequence[Array]) -> Parts:
        """Do the same once, and tell what each step took by CUDA's events.

        Raises:
            EngineError: TensorRT or CUDA failed: close this lane.
        """
        steps: tuple[Callable[[], object], ...] = (
            lambda: self._inputs.upload(self._stream),
            self._enqueue,
            lambda: self._outputs.download(self._stream),
        )
        with self._at_work:
            self._prepare(arrays)
            events = [Event(self._cuda) for _ in range(4)]
            events[0].record(self._stream)
            for step, event in zip(steps, events[1:], strict=True):
                step()
                event.record(self._stream)
            self._stream.wait()
            copy_in, compute, copy_out = (
                round(end.milliseconds_since(start) * 1e6)
                for start, end in itertools.pairwise(events)
            )
        return Parts(copy_in, compute, copy_out)

    def resident(self, arrays: Sequence[Array]) -> Callable[[], None]:
        """TensorRT's own call on inputs that are on the GPU already, and the wait for its end.

        Raises:
            EngineError: TensorRT or CUDA failed: close this lane.
        """
        with self._at_work:
            self._prepare(arrays)
            self._inputs.upload(self._stream)
            self._stream.wait()

        def call() -> None:
            with self._at_work:
                self._enqueue()
                self._stream.wait()

        return call

    def close(self) -> None:
        """Give everything back. Never fails: it comes behind what may have failed."""
        with contextlib.suppress(EdgeportError), self._cuda.current():
            with contextlib.suppress(EdgeportError):  # a call that was cut off is under way still
                self._stream.wait()
            self._execution = None  # before the memory that it knows of
        self._execution = None  # the GPU is lost
        self._stop_listening()
        self._inputs.close()
        self._outputs.close()
        self._stream.close()

    def _explain(self, refused: RefusedError) -> EdgeportError:
        return self._outputs.memory_error() or explain(self._library, self._heard, str(refused))

    def _prepare(self, arrays: Sequence[Array]) -> None:
        shapes = [array.shape for array in arrays]
        changed = shapes != self._shapes
        if changed:
            self._shapes = None  # until everything is told
            self._inputs.bind(self._running, arrays)
        self._inputs.fill(arrays)
        if changed or self._inputs.size_others:
            self._outputs.bind(self._running)
            self._shapes = shapes

    def _enqueue(self) -> None:
        self._outputs.begin()
        if not self._running.execute_async_v3(self._stream.handle):
            raise RefusedError(f"run {self._name}")

    @property
    def _running(self) -> IExecutionContext:
        if self._execution is None:
            raise RefusedError(f"run {self._name}: it is closed")
        return self._execution


class _Work:
    """What surrounds every call of TensorRT: its GPU is current, a refusal is explained."""

    __slots__ = ("_lane",)

    def __init__(self, lane: Lane) -> None:
        self._lane: Lane = weakref.proxy(lane)  # it lives no longer than the lane

    def __enter__(self) -> None:
        self._lane._cuda.push()
        self._lane._heard.clear()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._lane._cuda.pop()
        if isinstance(error, RefusedError):
            raise self._lane._explain(error) from error


def _config(library: Library, engine: ICudaEngine) -> IRuntimeConfig | None:
    """Let TensorRT-RTX compile its kernels for a new shape at once.

    By itself it does so in the background, and answers with others meanwhile: then what was proved
    is not what computes later.
    https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/performance/optimization.html
    """
    strategies = getattr(library.module, "DynamicShapesKernelSpecializationStrategy", None)
    if strategies is None:  # TensorRT compiles when it builds
        return None
    config = engine.create_runtime_config()
    config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
    return config


def _listen(library: Library, lane: Lane) -> tuple[list[Message], Callable[[], object]]:
    """Hear of errors as long as the lane lives: to begin anew in every call costs more."""
    ear = contextlib.ExitStack()
    heard = ear.enter_context(library.listening("error"))
    return heard, weakref.finalize(lane, ear.close)

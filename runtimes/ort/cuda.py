"""ONNX Runtime on a GPU: its CUDA provider, without a silent way back to the CPU."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import onnxruntime

from edgeport.runtimes.cuda.gpus import Gpus, gpus
from edgeport.runtimes.devices import require_no_forced_tf32, rounded
from edgeport.runtimes.errors import (
    BackendMissingError,
    ContractError,
    EdgeportError,
    EngineError,
    UsageError,
)
from edgeport.runtimes.heap import give_back
from edgeport.runtimes.inputs import Array, InputCheck
from edgeport.runtimes.outputs import OutputCheck
from edgeport.runtimes.session import Availability, Closes, Options, check_signature, closed
from edgeport.runtimes.signature import Signature
from edgeport.runtimes.timed_parts import Parts

from .cpu_nodes import RECORD, on_cpu
from .cuda_failures import failure
from .cuda_needs import require_cuda, require_gpu
from .device_buffers import DeviceBuffers
from .loading import engine_of, load, missing, precision_of, settings_of, signature_of
from .shared_libraries import load_all, needed_by

PROVIDER: Final = "CUDAExecutionProvider"

_CUDNN: Final = "libcudnn.so.9"
"""Of ONNX Runtime 1.19 and later; opened when a convolution runs, so that its file says nothing."""

_INSTALL: Final = "pip install 'onnxruntime-gpu[cuda,cudnn]'"


class OrtCudaSession(Closes):
    """An ONNX file, opened on a GPU. Safe to share between threads.

    ONNX Runtime copies what goes in and out, on the stream it computes on, and waits once; bound
    memory took 1.3 times as long for small models on an H100. A CUDA graph needs bound memory,
    because it replays fixed addresses, and its calls go one at a time.
    """

    def __init__(self, path: Path, options: Options) -> None:
        name = options.name or str(path)
        asked = provider_options(options, require_gpu(options.device, _require()))
        self._session = _open(path, options, asked)
        used = _read_back(self._session, asked)
        self.signature = signature_of(name, self._session)
        check_signature(path, self.signature, options)
        if options.gpu.cuda_graph:
            require_fixed(self.signature)
        cpu_nodes = _require_no_cpu_nodes(self._session, path, name, options)
        self._device = f"cuda:{used['device_id']}"
        own = precision_of(self._session, self.signature)
        precision = rounded(own, tf32=used.get("use_tf32") == "1")
        engine = engine_of("ort-cuda", self._session, precision, self._device)
        self.engine = replace(engine, cpu_nodes=cpu_nodes)
        self._limited = options.gpu.memory_bytes is not None
        self._check = InputCheck(self.signature)
        self._check_outputs = OutputCheck(self.signature)
        self._buffers = DeviceBuffers(
            self._session, self.signature, "cuda", int(used["device_id"]),
            graphs=options.gpu.cuda_graph,
        )  # fmt: skip
        self._graphs = options.gpu.cuda_graph
        self._inputs = [spec.name for spec in self.signature.inputs]
        self._outputs = [spec.name for spec in self.signature.outputs]
        self._turn = threading.Lock() if self._graphs else contextlib.nullcontext()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute every output.

        Raises:
            InputError: An input does not fit the signature.
            EngineError: ONNX Runtime failed, an output does not fit the signature, the GPU has no
                memory, or the session is closed.
        """
        arrays = self._check(inputs)
        session, buffers = self._opened()
        try:
            if self._graphs:
                with self._turn, buffers.lent(arrays) as lent:
                    outputs = lent.run(arrays)
            else:
                feed = dict(zip(self._inputs, arrays, strict=True))
                outputs = session.run(self._outputs, feed)
        except Exception as e:  # ONNX Runtime's exceptions have no common base
            raise failure(e, self._device, limited=self._limited) from e
        found = dict(zip(self._outputs, outputs, strict=True))
        self._check_outputs(arrays, found)
        return found

    def timed_parts(self, inputs: Mapping[str, Array]) -> Parts:
        """Do the steps of ``run`` one after the other, on bound memory, and tell what each took.

        ONNX Runtime has a stream of its own and waits for it, so the clock of the host tells.

        Raises:
            InputError: An input does not fit the signature.
            EngineError: ONNX Runtime failed, or the session is closed.
        """
        arrays = self._check(inputs)
        _, buffers = self._opened()
        try:
            with self._turn, buffers.lent(arrays) as lent:
                return lent.times(arrays)
        except Exception as e:
            raise failure(e, self._device, limited=self._limited) from e

    @contextlib.contextmanager
    def engine_call(self, inputs: Mapping[str, Array]) -> Iterator[Callable[[], object]]:
        """Show ONNX Runtime's own call on what is in the GPU's memory already, and stays there.

        Raises:
            InputError: An input does not fit the signature.
            EngineError: ONNX Runtime failed, or the session is closed.
        """
        arrays = self._check(inputs)
        _, buffers = self._opened()
        try:
            with self._turn, buffers.lent(arrays) as lent:
                lent.run(arrays)
                yield lent.call
        except EdgeportError:
            raise
        except Exception as e:
            raise failure(e, self._device, limited=self._limited) from e

    def close(self) -> None:
        """Give the engine's memory back, the GPU's too."""
        with contextlib.suppress(AttributeError):  # closed already
            del self._buffers, self._session
            give_back()

    def _opened(self) -> tuple[Any, DeviceBuffers]:
        try:
            return self._session, self._buffers
        except AttributeError:
            raise closed() from None


def probe() -> Availability:
    """Say whether ONNX Runtime can run on a GPU here, and if not, what is in its way."""
    lacking = missing(PROVIDER, "cuda")
    if lacking is not None:
        return lacking
    version = onnxruntime.__version__
    try:
        _require()
    except EdgeportError as e:
        return Availability(False, "onnxruntime", version, None, e.problem, e.remedy)
    return Availability(True, "onnxruntime", version, PROVIDER)


def open(path: Path, options: Options) -> OrtCudaSession:
    """Open an ONNX file.

    Raises:
        BackendMissingError: There is no such GPU, or something that it needs is not installed.
        EngineError: ONNX Runtime refused it, or the GPU has not enough memory.
        ContractError: Its signature, the provider in use or an option of it is not the one asked
            for, or nodes run on the CPU and that was not allowed.
        UsageError: A CUDA graph was asked for, and not all shapes are fixed.
    """
    return OrtCudaSession(path, options)


def provider_options(options: Options, index: int) -> dict[str, str]:
    """What the provider is asked for. Everything is text, as it reads it and tells it back.

    A search over cuDNN's algorithms is repeated for every new shape, and takes seconds: it is
    exhaustive only where all shapes are fixed. An arena that may not grow beyond a limit takes
    no more than is asked of it; one without grows by powers of two.
    https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html#configuration-options

    Args:
        options: What the caller asked.
        index: Of the GPU.
    """
    gpu, signature = options.gpu, options.signature
    fixed = signature is not None and not _free(signature)
    asked = {
        "device_id": str(index),
        "cudnn_conv_algo_search": "EXHAUSTIVE" if fixed else "HEURISTIC",
        "use_tf32": str(int(gpu.tf32)),
        "enable_cuda_graph": str(int(gpu.cuda_graph)),
    }
    if gpu.memory_bytes is not None:
        asked["gpu_mem_limit"] = str(gpu.memory_bytes)
        asked["arena_extend_strategy"] = "kSameAsRequested"
    return asked


def require_fixed(signature: Signature) -> None:
    """Refuse a CUDA graph for a model whose sizes are free.

    Raises:
        UsageError: It has one.
    """
    free = _free(signature)
    if free:
        raise UsageError(
            f"a CUDA graph needs fixed shapes, and {', '.join(free)} may vary",
            remedy="leave the CUDA graph out, or export the model without free dimensions",
        )


def _free(signature: Signature) -> list[str]:
    sizes = [size for spec in (*signature.inputs, *signature.outputs) for size in spec.shape]
    return list(dict.fromkeys(size for size in sizes if isinstance(size, str)))


def _require() -> Gpus:
    lacking = missing(PROVIDER, "cuda")
    if lacking is not None:
        raise BackendMissingError(
            f"backend 'ort-cuda' cannot be used here: {lacking.reason}",
            remedy=lacking.remedy or _INSTALL,
        )
    found = gpus()
    built_with = str(getattr(onnxruntime, "cuda_version", None) or "")
    who = f"onnxruntime {onnxruntime.__version__}"
    require_cuda(found, who, built_with, _libraries(), _INSTALL)
    load_all(_optional(built_with))
    return found


def _libraries() -> Sequence[str]:
    provider = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    if not provider.is_file():
        return ()
    needed = [name for name in needed_by(provider) if name.startswith("libcu")]
    wanted = [name for name in needed if not name.startswith("libcuda.")]  # the driver's own
    return wanted if any("cudnn" in name for name in wanted) else [*wanted, _CUDNN]


def _optional(built_with: str) -> Sequence[str]:
    """What only a few operators open (``DFT``), if it can be had."""
    major = built_with.partition(".")[0]
    return (f"libnvrtc.so.{major}", f"libcufft.so.{'11' if major == '12' else '12'}")


def _open(path: Path, options: Options, asked: dict[str, str]) -> onnxruntime.InferenceSession:
    if not options.gpu.tf32:
        require_no_forced_tf32()
    settings = settings_of(options)
    settings.add_session_config_entry(RECORD, "1")
    try:
        with _quietly():
            session = load(path, options, settings, PROVIDER, asked)
            give_back()  # free pages that optimising the graph leaves behind on the host
    except EngineError as e:
        raise failure(
            e.__cause__ or e,
            f"cuda:{asked['device_id']}",
            otherwise=e,
            limited="gpu_mem_limit" in asked,
        ) from e
    if session.get_providers()[0] != PROVIDER:
        raise ContractError(
            f"asked for {PROVIDER}, got {', '.join(session.get_providers())}",
            remedy="edgeport doctor shows which providers work here",
        )
    return session


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """What the provider logs while it is made is raised, or found out, and told in our words."""
    onnxruntime.set_default_logger_severity(4)  # fatal only
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(2)  # warnings, as it begins


def _read_back(session: Any, asked: Mapping[str, str]) -> Mapping[str, str]:
    """The options that the provider has, which are those that it was asked for."""
    used: dict[str, Any] = session.get_provider_options()[PROVIDER]
    for name, value in asked.items():
        if used.get(name, value) != value:
            raise ContractError(
                f"asked {PROVIDER} for {name}={value}, got {name}={used[name]}",
                remedy="install another version of onnxruntime-gpu: pip install -U onnxruntime-gpu",
            )
    return {**asked, **used}


def _require_no_cpu_nodes(
    session: onnxruntime.InferenceSession, path: Path, name: str, options: Options
) -> tuple[str, ...]:
    nodes = on_cpu(session, path)
    if options.gpu.allow_cpu_nodes:
        return nodes if nodes is not None else ("unknown: this version does not tell",)
    if nodes is None:
        raise ContractError(
            f"onnxruntime {onnxruntime.__version__} does not tell which nodes run on the CPU",
            remedy="pip install -U 'onnxruntime-gpu>=1.24', or accept them: --allow-cpu-nodes",
        )
    if nodes:
        raise ContractError(
            f"asked for {PROVIDER}, but it has no kernel for {len(nodes)} of the nodes of {name}, "
            f"which run on the CPU: {', '.join(nodes)}",
            remedy="accept them with --allow-cpu-nodes (every one costs two copies), or replace "
            "the operators in the module",
        )
    return ()

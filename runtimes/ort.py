"""ONNX Runtime on the CPU."""

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import onnxruntime

from .cpus import available_cpus
from .errors import ContractError, EngineError
from .inputs import Array, InputCheck
from .ort_buffers import BoundBuffers
from .session import Availability, EngineInfo, Options, check_signature
from .signature import METADATA_KEY, Signature, TensorSpec

PROVIDER: Final = "CPUExecutionProvider"

_WHEELS: Final = (
    "onnxruntime",
    "onnxruntime-cann",
    "onnxruntime-directml",
    "onnxruntime-gpu",
    "onnxruntime-migraphx",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-training",
)
"""Wheels that install the module ``onnxruntime``. To ask for each by name takes 1 ms; to ask every
installed package what it holds, as ``packages_distributions`` does, 0.5 s and more."""

_DTYPES: Final = {
    "tensor(bool)": "bool",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    **{
        f"tensor({kind}{bits})": f"{kind}{bits}"
        for kind in ("int", "uint")
        for bits in (8, 16, 32, 64)
    },
}


class OrtSession:
    """An ONNX file, opened. Safe to share between threads."""

    def __init__(self, path: Path, options: Options) -> None:
        self._session = open_engine(path, options)
        self.signature = _signature(options.name or str(path), self._session)
        check_signature(path, self.signature, options)
        self.engine = EngineInfo(
            backend="ort-cpu",
            engine="onnxruntime",
            version=onnxruntime.__version__,
            provider=self._session.get_providers()[0],
            device="cpu",
            precision=self.signature.precision,
            threads=self._session.get_session_options().intra_op_num_threads,
        )
        self._check = InputCheck(self.signature)
        self._bound = BoundBuffers(self._session, self.signature)
        self._quick = self._bound.run
        self._inputs = [spec.name for spec in self.signature.inputs]
        self._outputs = [spec.name for spec in self.signature.outputs]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute every output.

        Raises:
            InputError: An input does not fit the signature.
            EngineError: ONNX Runtime failed, or the session is closed.
        """
        found = self._quick(inputs)
        if found is not None:
            return found
        arrays = self._check(inputs)
        try:
            bound, session = self._bound, self._session
        except AttributeError:
            raise EngineError("the session is closed", remedy="open it again") from None
        try:
            outputs: Any = session.run(self._outputs, dict(zip(self._inputs, arrays, strict=True)))
        except Exception as e:  # ONNX Runtime's exceptions have no common base
            raise EngineError(
                f"ONNX Runtime failed: {first_line(e)}",
                remedy="edgeport verify tells whether the artefact works on this machine",
            ) from e
        bound.learn(arrays, outputs)
        return dict(zip(self._outputs, outputs, strict=True))

    @contextlib.contextmanager
    def engine_call(self, inputs: Mapping[str, Array]) -> Iterator[Callable[[], object]]:
        """Show ONNX Runtime's own call on these inputs, to be timed beside ``run``.

        Raises:
            InputError: An input does not fit the signature.
        """
        feed = dict(zip(self._inputs, self._check(inputs), strict=True))
        yield partial(self._session.run, self._outputs, feed)

    def close(self) -> None:
        """Give the engine's memory back."""
        self._quick = _closed
        with contextlib.suppress(AttributeError):  # closed already
            del self._bound, self._session

    def __enter__(self) -> "OrtSession":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _closed(_: Mapping[str, Array]) -> None:
    """No bound buffers: the usual way says that the session is closed."""


def probe() -> Availability:
    """Say whether ONNX Runtime can run on the CPU here."""
    version = onnxruntime.__version__
    wheels = [name for name in _WHEELS if _is_installed(name)]
    if len(wheels) > 1:
        return Availability(
            False,
            "onnxruntime",
            version,
            reason=f"{' and '.join(wheels)} are both installed, and overwrite one another",
            remedy=f"pip uninstall -y {' '.join(wheels)}; pip install 'edgeport[ort]'",
        )
    if PROVIDER not in onnxruntime.get_available_providers():
        return Availability(
            False,
            "onnxruntime",
            version,
            reason=f"this build has no {PROVIDER}",
            remedy="pip install --force-reinstall onnxruntime",
        )
    return Availability(True, "onnxruntime", version, PROVIDER)


def _is_installed(wheel: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version  # 2 MB with what it imports

    try:
        return bool(version(wheel))
    except PackageNotFoundError:
        return False


def open(path: Path, options: Options) -> OrtSession:
    """Open an ONNX file.

    Raises:
        EngineError: ONNX Runtime refused it.
        ContractError: Its signature, or the provider in use, is not the one asked for.
    """
    return OrtSession(path, options)


def open_engine(path: Path, options: Options) -> onnxruntime.InferenceSession:
    """Open a file in ONNX Runtime, as it was asked for.

    Raises:
        EngineError: ONNX Runtime refused it.
        ContractError: The provider in use is another.
    """
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads or available_cpus()
    settings.inter_op_num_threads = 1
    if not options.spinning:
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not options.optimize:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 4  # fatal only: errors are raised, warnings are noise to a user
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=[PROVIDER])
    except Exception as e:  # ONNX Runtime's exceptions have no common base
        reason = first_line(e).replace(str(path), path.name if options.name is None else "it")
        raise EngineError(
            f"ONNX Runtime cannot open {options.name or path}: {reason}",
            remedy="check that it is an ONNX file of an opset that this version knows",
        ) from e
    _give_memory_back()
    session.disable_fallback()  # run() would go on with another provider after some errors
    if session.get_providers() != [PROVIDER]:
        raise ContractError(
            f"asked for {PROVIDER}, got {', '.join(session.get_providers())}",
            remedy="edgeport doctor shows which providers work here",
        )
    return session


def _give_memory_back() -> None:
    """Optimising a graph leaves up to twice its weights in free pages, which glibc would keep."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _signature(name: str, session: onnxruntime.InferenceSession) -> Signature:
    graph = Signature(
        tuple(spec_of(name, node) for node in session.get_inputs()),
        tuple(spec_of(name, node) for node in session.get_outputs()),
    )
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        return graph
    declared = Signature.loads(text, name)
    if declared.inputs != graph.inputs or declared.outputs != graph.outputs:
        raise ContractError(
            f"{name} declares {declared}\n  but its graph has {graph}",
            remedy="export the model again; the file was edited",
        )
    return declared


def spec_of(name: str, node: "onnxruntime.NodeArg") -> TensorSpec:
    """What a graph says of an input or output.

    Args:
        name: What to call the file in an error.
        node: As ONNX Runtime shows it.

    Raises:
        EngineError: It holds what no session passes: strings, sequences, complex numbers.
    """
    if node.type not in _DTYPES:
        raise EngineError(
            f"{name}: {node.name!r} is a {node.type}, which edgeport cannot pass",
            remedy="open it with backend 'ort-strings', if edgeport made it"
            if node.type == "tensor(string)"
            else "export the model with tensors of numbers or bools",
        )
    sizes = (
        size if isinstance(size, int | str) and size != "" else f"{node.name}_{axis}"
        for axis, size in enumerate(node.shape)
    )
    return TensorSpec(node.name, _DTYPES[node.type], tuple(sizes))


def first_line(error: Exception) -> str:
    """The first line of what ONNX Runtime says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

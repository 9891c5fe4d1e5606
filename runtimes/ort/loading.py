"""What the backends of ONNX Runtime do alike: find the library, open a file, read its signature."""

from pathlib import Path
from typing import Any, Final

import onnxruntime

from edgeport.runtimes.cpus import available_cpus
from edgeport.runtimes.errors import ContractError, EngineError, first_line
from edgeport.runtimes.run_failures import out_of_memory, run_failure
from edgeport.runtimes.session import Availability, EngineInfo, Options
from edgeport.runtimes.signature import METADATA_KEY, PRECISION_KEY, Signature, TensorSpec

from .mapped_weights import opened

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


def missing(provider: str, extra: str) -> Availability | None:
    """Why the library that is installed has no such provider; ``None`` if it has it.

    Args:
        provider: As ONNX Runtime calls it.
        extra: Of edgeport, which installs a library that has it.
    """
    wheels = [name for name in _WHEELS if _is_installed(name)]
    wheel = "onnxruntime-gpu" if extra == "cuda" else "onnxruntime"
    reason, remedy = None, None
    if len(wheels) > 1:
        reason = f"{' and '.join(wheels)} are both installed, and overwrite one another"
        remedy = f"pip uninstall -y {' '.join(wheels)}; pip install 'edgeport[{extra}]'"
    elif provider not in onnxruntime.get_available_providers():
        reason = f"this build of {''.join(wheels) or 'onnxruntime'} has no {provider}"
        remedy = f"pip install --force-reinstall {wheel}"
        if wheels != [wheel]:
            remedy = f"pip uninstall -y {''.join(wheels)}; pip install 'edgeport[{extra}]'"
    if reason is None:
        return None
    return Availability(False, "onnxruntime", onnxruntime.__version__, None, reason, remedy)


def settings_of(options: Options) -> onnxruntime.SessionOptions:
    """How a session is to be opened."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads or available_cpus()
    settings.inter_op_num_threads = 1
    if not options.spinning:
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not options.optimize:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 4  # fatal only: errors are raised, warnings are noise to a user
    return settings


def load(
    path: Path,
    options: Options,
    settings: onnxruntime.SessionOptions,
    provider: str,
    provider_options: dict[str, str],
) -> onnxruntime.InferenceSession:
    """Open a file with one provider. Whether it is in use, the caller sees in ``get_providers``.

    Raises:
        EngineError: ONNX Runtime refused it, or (``OutOfMemoryError``) got no memory for it.
    """
    try:
        with opened(path, settings) as model:
            session = onnxruntime.InferenceSession(
                model, settings, providers=[(provider, provider_options)], enable_fallback=0
            )
    except Exception as e:  # ONNX Runtime's exceptions have no common base
        reason = first_line(e).replace(str(path), path.name if options.name is None else "it")
        refused = f"ONNX Runtime cannot open {options.name or path}"
        raise out_of_memory(refused, reason) or EngineError(
            f"{refused}: {reason}",
            remedy="check that it is an ONNX file of an opset that this version knows",
        ) from e
    session.disable_fallback()  # run() would go on with another provider after some errors
    return session


def engine_of(
    backend: str, session: onnxruntime.InferenceSession, precision: str, device: str = "cpu"
) -> EngineInfo:
    """What is in use, as the session tells it."""
    return EngineInfo(
        backend=backend,
        engine="onnxruntime",
        version=onnxruntime.__version__,
        provider=session.get_providers()[0],
        device=device,
        precision=precision,
        threads=session.get_session_options().intra_op_num_threads,
    )


def failed(error: Exception) -> EngineError:
    """The error of a run."""
    return run_failure("ONNX Runtime", first_line(error))


def signature_of(name: str, session: onnxruntime.InferenceSession) -> Signature:
    """What the graph declares, or the signature that is kept in the file and fits it.

    Raises:
        EngineError: An input or output is no tensor of numbers or bools.
        ContractError: The signature in the file does not fit the graph.
    """
    graph = Signature(
        tuple(spec_of(name, node) for node in session.get_inputs()),
        tuple(spec_of(name, node) for node in session.get_outputs()),
    )
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        return graph
    declared = Signature.loads(text, name)
    if declared.inputs != graph.inputs or declared.outputs != graph.outputs:
        own, other = _first_apart(declared, graph)
        raise ContractError(
            f"{name} declares {own}\n  but its graph has {other}",
            remedy="export the model again; the file was edited",
        )
    return declared


def _first_apart(declared: Signature, graph: Signature) -> tuple[object, object]:
    """The first tensors that differ, or all of both where their names do."""
    pairs = [*zip(declared.inputs, graph.inputs, strict=False)]
    pairs += zip(declared.outputs, graph.outputs, strict=False)
    apart = [(own, other) for own, other in pairs if own != other]
    same_names = all(own.name == other.name for own, other in apart)
    return apart[0] if apart and same_names else (declared, graph)


def precision_of(session: onnxruntime.InferenceSession, signature: Signature) -> str:
    """What the file says that it computes in, or else the dtype of its outputs."""
    said: str | None = session.get_modelmeta().custom_metadata_map.get(PRECISION_KEY)
    return said or signature.precision


def _is_installed(wheel: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version  # 2 MB with what it imports

    try:
        return bool(version(wheel))
    except PackageNotFoundError:
        return False


def spec_of(name: str, node: Any) -> TensorSpec:
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

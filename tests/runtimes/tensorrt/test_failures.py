"""Messages of TensorRT, as its libraries have them, in words. Some are heard from the library."""

import ctypes.util
from pathlib import Path

import pytest

from edgeport.runtimes import (
    BackendMissingError,
    EdgeportError,
    EngineError,
    LostGpuError,
    OutOfMemoryError,
    Signature,
)
from edgeport.runtimes.tensorrt.building import build
from edgeport.runtimes.tensorrt.failures import explain
from edgeport.runtimes.tensorrt.library import Library, Message
from edgeport.runtimes.tensorrt.order import Built, Order
from edgeport.runtimes.tensorrt.session import _deserialise

REBUILD = "build it on this machine: edgeport export --format tensorrt"
CUDA = "IRuntime::deserializeCudaEngine: Error Code 1: Cuda Runtime (In x at /_src/y.cpp:25 "


@pytest.mark.parametrize(
    ("kind", "text", "problem", "remedy"),
    [
        (
            BackendMissingError,
            "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file "
            "is generated on an incompatible device, expecting compute 8.6 got compute 8.9, please "
            "rebuild.)",
            "it was built for compute capability 8.9, and this GPU has 8.6",
            REBUILD,
        ),
        (
            BackendMissingError,
            "Error Code 6: The engine cannot run on this GPU, which has compute capability 12.0. "
            "Supported compute capabilities: 8.6, 8.9.",
            "it was not built for compute capability 12.0, which this GPU has",
            "export it again, with 12.0 in --compute-capability",
        ),
        (
            BackendMissingError,
            "The engine cannot run on this GPU, which has compute capability 9.0. TensorRT-RTX "
            "does not support this compute capability, so the engine cannot be rebuilt for it.",
            "this library has nothing for compute capability 9.0, which this GPU has",
            "use another backend: ort-cuda",
        ),
        (
            BackendMissingError,
            "The engine has been created with TensorRT-RTX version 1.6.0.1, but the current "
            "runtime is TensorRT-RTX version 1.7.1.116. Rebuild the engine with the same version",
            "it was built with version 1.6.0.1, and this is 1.7.1.116",
            f"{REBUILD}-rtx, or install the version that built it",
        ),
        (
            BackendMissingError,
            "The current device is not compatible with this hardware-compatible engine. Expected "
            "compute capability >= 8.0 but got compute capability = 7.5. Please rebuild.",
            "it needs compute capability 8.0 or more, and this GPU has 7.5",
            REBUILD,
        ),
        (
            BackendMissingError,
            "The engine plan file is not compatible with this version of TensorRT, expecting "
            "library version 10.13.3.9 got 10.16.1.11, please rebuild.",
            "it was built with version 10.16.1.11, and this is 10.13.3.9",
            f"{REBUILD}-rtx, or install the version that built it",
        ),
        (
            BackendMissingError,
            "[stdArchiveReader.cpp::stdArchiveReaderInitCommon::46] Error Code 1: Serialization "
            "(Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed.Version tag "
            "does not match. Note: Current Version: 239, Serialized Engine Version: 236)",
            "another version built it",
            "install the version that built it",
        ),
        (
            EngineError,
            "Serialization assertion actualTypehash == expectedTypehash failed.",
            "it is damaged or cut short",
            "edgeport verify",
        ),
        (
            OutOfMemoryError,
            "IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (Requested amount of GPU "
            "memory (8589934592 bytes) could not be allocated. There may not be enough free memory",
            "the GPU has not enough memory",
            "smaller batches in fewer threads",
        ),
        (
            OutOfMemoryError,
            f"{CUDA}(cudaError 2: out of memory))",
            "the GPU has not enough memory",
            "nvidia-smi",
        ),
        (
            LostGpuError,
            f"{CUDA}(cudaError 700: an illegal memory access was encountered))",
            "a kernel touched memory that is not its own",
            "start a new one",
        ),
        (
            LostGpuError,
            "[checkMacros.cpp::catchCudaError::212] Error Code 1: Cuda Runtime (an illegal memory "
            "access was encountered)",  # TensorRT 10.3
            "a kernel touched memory that is not its own",
            "start a new one",
        ),
        (
            OutOfMemoryError,
            "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)",
            "the GPU has not enough memory",
            "nvidia-smi",
        ),
        (
            BackendMissingError,
            "CUDA initialization failure with error: 100. Please check your CUDA installation",
            "the driver sees no GPU",
            "--gpus all",
        ),
        (
            BackendMissingError,
            f"{CUDA}(cudaError 209: no kernel image is available for execution on the device))",
            "there is no code for this GPU's compute capability in it",
            "use a build of the library, or of the engine, that is made for this GPU",
        ),
        (EngineError, f"{CUDA}(cudaError 98: invalid device function))", "cudaError 98", "dmesg"),
        (
            EngineError,
            "Error Code 4: Internal Error (something new)\nmore",
            "(something new)",
            "another release",
        ),
    ],
)
def test_each_cause_is_told_with_a_remedy(
    rtx: Library, kind: type[EdgeportError], text: str, problem: str, remedy: str
) -> None:
    heard = [Message("warning", "not this"), Message("error", text), Message("error", "nor this")]
    error = explain(rtx, heard, "open m.rtx")
    assert type(error) is kind
    assert error.problem.startswith(f"{rtx} cannot open m.rtx: ")
    assert problem in error.problem
    assert remedy in error.remedy
    assert "\n" not in error.problem


@pytest.mark.parametrize(
    "message",
    [
        Message("error", f"{CUDA}(cudaError 35: driver))"),
        Message("error", f"{CUDA}(cudaError 36: driver))"),
        # TensorRT 8.6 and later say nothing else: https://github.com/NVIDIA/TensorRT/issues/2913
        Message("warning", "CUDA initialization failure with error: 35. Please check your CUDA"),
    ],
)
def test_a_driver_that_is_too_old(rtx: Library, message: Message) -> None:
    heard = [Message("warning", "another warning"), message]
    try:
        error = explain(rtx, heard, "open m.rtx")
    except BackendMissingError as e:  # its version is asked for, and there is none here
        error = e
    assert type(error) is BackendMissingError
    assert "driver" in error.problem


def test_a_refusal_without_a_word(rtx: Library) -> None:
    error = explain(rtx, [], "run m.rtx")
    assert error.problem == f"{rtx} cannot run m.rtx: it does not say why"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, mlp_onnx: bytes, rtx: Library) -> bytes:
    """A real engine, of TensorRT-RTX's own builder."""
    from edgeport.runtimes import Range, TensorSpec
    from edgeport.runtimes.tensorrt.order import Bounds

    folder = tmp_path_factory.mktemp("built")
    (folder / "m.onnx").write_bytes(mlp_onnx)
    signature = Signature(
        (TensorSpec("x", "float32", ("batch", 8)),),
        (TensorSpec("logits", "float32", ("batch", 3)), TensorSpec("label", "int64", ("batch",))),
        {"batch": Range(1, 64)},
    )
    shapes = {"x": Bounds((1, 8), (4, 8), (64, 8))}
    paths = (str(folder / "m.onnx"), str(folder / "m.rtx"))
    assert isinstance(build(Order("tensorrt-rtx", *paths, signature, shapes), 120), Built)
    return Path(paths[1]).read_bytes()


class NoContext:
    """Where TensorRT-RTX itself is heard before a GPU is looked for, none has to be current."""

    def current(self) -> "NoContext":
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda engine: b"", "it is empty"),
        (lambda engine: b"not an engine" * 100, "it is no engine of this library, or of a version"),
        (lambda engine: b"ftrt" + engine[4:], "it is no engine of this library, or of a version"),
        (lambda engine: engine[:1000], "it is damaged or cut short"),
        (lambda engine: engine + b"more", "it is damaged or cut short"),
    ],
)
def test_what_the_library_itself_says_of_a_bad_file(
    rtx: Library, engine: bytes, change: object, problem: str
) -> None:
    assert callable(change)
    with pytest.raises(EngineError) as caught:
        _deserialise(rtx, NoContext(), change(engine), "m.rtx")  # type: ignore[arg-type]
    assert caught.value.problem.startswith(f"{rtx} cannot open m.rtx: {problem}")


def test_what_the_library_itself_says_without_a_driver(rtx: Library, engine: bytes) -> None:
    if ctypes.util.find_library("cuda") is not None:
        pytest.skip("there is a driver here")
    with pytest.raises(BackendMissingError, match=r"^a GPU is needed, and no NVIDIA driver is in"):
        _deserialise(rtx, NoContext(), engine, "m.rtx")  # type: ignore[arg-type]

"""What can be known without a GPU: the declarations, and every way a driver can be of no use."""

import ctypes.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from ctypes import POINTER, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from pathlib import Path

import pytest

from edgeport.runtimes import BackendMissingError, EngineError, LostGpuError
from edgeport.runtimes.cuda import device, driver, failures, memory, stream
from edgeport.runtimes.cuda.device import Context, devices
from edgeport.runtimes.cuda.driver import PROTOTYPES, Driver
from edgeport.runtimes.cuda.failures import CRASHES, KNOWN, crash, failure

HEADERS = json.loads((Path(__file__).parent / "cuda_api.json").read_text())

C_TYPES = {
    "int": c_int,
    "unsigned int": c_uint,
    "size_t": c_size_t,
    "CUdevice": c_int,
    "CUdevice_attribute": c_int,
    "CUresult": c_int,
    "CUdeviceptr": c_uint64,
    "CUcontext": c_void_p,
    "CUstream": c_void_p,
    "CUevent": c_void_p,
    "void *": c_void_p,
    "const void *": c_void_p,
    "char *": c_char_p,
    "int *": POINTER(c_int),
    "float *": POINTER(c_float),
    "size_t *": POINTER(c_size_t),
    "CUdevice *": POINTER(c_int),
    "CUdeviceptr *": POINTER(c_uint64),
    "CUcontext *": POINTER(c_void_p),
    "CUstream *": POINTER(c_void_p),
    "CUevent *": POINTER(c_void_p),
    "void **": POINTER(c_void_p),
    "const char **": POINTER(c_char_p),
}

each_header = pytest.mark.parametrize("version", sorted(HEADERS))


@each_header
def test_functions_are_declared_as_cuda_h_declares_them(version: str) -> None:
    functions = HEADERS[version]["functions"]
    assert functions.keys() == PROTOTYPES.keys()
    for name, arguments in PROTOTYPES.items():
        assert arguments == tuple(C_TYPES[each] for each in functions[name]), name


@each_header
def test_numbers_are_those_of_cuda_h(version: str) -> None:
    numbers = HEADERS[version]["constants"]
    attributes = {
        "COMPUTE_CAPABILITY_MAJOR": device._MAJOR,
        "COMPUTE_CAPABILITY_MINOR": device._MINOR,
    }
    for name, number in attributes.items():
        assert numbers[f"CU_DEVICE_ATTRIBUTE_{name}"] == number
    assert numbers["CU_MEMHOSTALLOC_PORTABLE"] == memory._PORTABLE
    assert numbers["CU_STREAM_NON_BLOCKING"] == stream._NON_BLOCKING
    assert numbers["CU_EVENT_DEFAULT"] == stream._TIMED
    expected = {
        2: "OUT_OF_MEMORY",
        3: "NOT_INITIALIZED",
        34: "STUB_LIBRARY",
        46: "DEVICE_UNAVAILABLE",
        100: "NO_DEVICE",
        101: "INVALID_DEVICE",
        209: "NO_BINARY_FOR_GPU",
        214: "ECC_UNCORRECTABLE",
        700: "ILLEGAL_ADDRESS",
        702: "LAUNCH_TIMEOUT",
        710: "ASSERT",
        714: "HARDWARE_STACK_ERROR",
        715: "ILLEGAL_INSTRUCTION",
        716: "MISALIGNED_ADDRESS",
        717: "INVALID_ADDRESS_SPACE",
        718: "INVALID_PC",
        719: "LAUNCH_FAILED",
        802: "SYSTEM_NOT_READY",
        803: "SYSTEM_DRIVER_MISMATCH",
        804: "COMPAT_NOT_SUPPORTED_ON_DEVICE",
        999: "UNKNOWN",
    }
    assert expected.keys() == KNOWN.keys() >= {*CRASHES.values()}
    for code, name in expected.items():
        assert numbers[f"CUDA_ERROR_{name}"] == code


@pytest.fixture(autouse=True)
def _not_started() -> Iterator[None]:
    driver._started.cache_clear()
    yield
    driver._started.cache_clear()


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A loader that finds no driver, whatever machine the test runs on."""
    monkeypatch.setattr(driver, "LIBRARIES", ("libcuda-of-nobody.so.1",))
    monkeypatch.setattr(failures, "KERNEL_MODULE", tmp_path / "version")


@pytest.mark.usefixtures("no_library")
@pytest.mark.parametrize("use", [devices, lambda: Context(0), lambda: device.device(1)])
def test_a_machine_without_a_driver(use: Callable[[], object]) -> None:
    with pytest.raises(
        BackendMissingError,
        match=r"^a GPU is needed, and no NVIDIA driver is installed here: libcuda-of-nobody.*\n"
        r"  fix: use a machine with an NVIDIA GPU and its driver; in a container, --gpus all",
    ):
        use()


@pytest.mark.usefixtures("no_library")
def test_a_container_that_was_started_without_the_gpu(tmp_path: Path) -> None:
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22\n"
    )
    with pytest.raises(
        BackendMissingError,
        match=r"^the kernel has NVIDIA's driver 550\.54\.14, but its library cannot be loaded: "
        r".*\n  fix: .*--gpus all \(of Jetson: --runtime nvidia\)$",
    ):
        driver.driver()


def test_a_library_that_is_no_driver() -> None:
    name = ctypes.util.find_library("m")
    assert name is not None
    with pytest.raises(BackendMissingError, match=r"libm\S* has no cuInit, which CUDA 11 brought"):
        Driver(name)


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A driver's library that refuses everything, with the code that REFUSAL gives."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("driver")
    names = [name for name in PROTOTYPES if name != "cuGetErrorName"]
    (folder / "refusing.c").write_text(
        "#include <stdlib.h>\n"
        'static int refuse(void) { return atoi(getenv("REFUSAL")); }\n'
        + "".join(f"int {name}(void) {{ return refuse(); }}\n" for name in names)
        + "int cuGetErrorName(int code, const char **name) {\n"
        '    *name = code == 4242 ? 0 : "THE_NAME";\n'
        "    return code == 4242;\n}\n"
    )
    library = folder / "libcuda.so.1"
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(folder / "refusing.c")]
    subprocess.run(command, check=True)
    return library


@pytest.mark.parametrize("code", sorted(KNOWN))
def test_every_refusal_is_told_by_name_with_a_remedy(
    refusing: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSAL", str(code))
    with pytest.raises(KNOWN[code].kind) as caught:
        Driver(str(refusing))
    assert caught.value.problem.startswith(
        f"cannot start the CUDA driver: {KNOWN[code].problem} (THE_NAME)"
    )
    assert caught.value.remedy == KNOWN[code].remedy


def test_a_refusal_that_nobody_knows(refusing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSAL", "4242")
    with pytest.raises(
        EngineError, match=r"^cannot start the CUDA driver: CUDA error 4242\n.*dmesg"
    ):
        Driver(str(refusing))


def test_a_driver_that_starts_and_then_refuses(
    refusing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSAL", "0")
    monkeypatch.setattr(driver, "LIBRARIES", (str(refusing),))
    driver.driver()
    monkeypatch.setenv("REFUSAL", "100")
    with pytest.raises(BackendMissingError, match=r"^cannot count the GPUs: the driver sees no"):
        devices()
    monkeypatch.setenv("REFUSAL", "101")
    with pytest.raises(BackendMissingError, match=r"^cannot use cuda:7: there is no GPU of that"):
        Context(7)
    driver._started.cache_clear()


def test_a_gpu_that_goes_away_while_it_is_used(
    refusing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSAL", "0")
    monkeypatch.setattr(driver, "LIBRARIES", (str(refusing),))
    context = Context(0)
    monkeypatch.setenv("REFUSAL", "999")
    with pytest.raises(
        LostGpuError,
        match=r"^cannot use the GPU: the GPU that was used is lost \(THE_NAME\)\n  fix: CUDA "
        r"cannot be used again in this process: start a new one; see the kernel's log",
    ):
        context.push()
    driver._started.cache_clear()
    with pytest.raises(BackendMissingError, match=r"^cannot start .*: the driver failed for an u"):
        driver.driver()  # at its start it is another matter
    monkeypatch.setenv("REFUSAL", "0")


def test_a_crash_is_known_by_its_words() -> None:
    assert crash("Error Code 1: Cuda Runtime (an illegal memory access was encountered)") == 700
    assert crash("CUDA error: out of memory") is None
    for code in CRASHES.values():
        assert issubclass(type(failure(code, None, "run", in_use=True)), LostGpuError)


def test_versions_that_differ_are_both_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(failures, "KERNEL_MODULE", tmp_path / "version")
    assert "kernel module is" not in failure(803, "N", "use cuda:0").problem
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX Open Kernel Module  570.1  x\n")
    assert failure(803, "N", "use cuda:0").problem.endswith("(N); the kernel module is 570.1")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_asks_for_itself(refusing: Path) -> None:
    code = (
        "import os, sys\n"
        "from edgeport.runtimes.cuda import driver\n"
        "driver.LIBRARIES = (sys.argv[1],)\n"
        "os.environ['REFUSAL'] = '0'\n"
        "driver.driver()\n"
        "os.environ['REFUSAL'] = '3'  # what CUDA answers in a forked process\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    try:\n"
        "        driver.driver()\n"
        "    except Exception as e:\n"
        "        print(e, flush=True)\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
    )
    command = [sys.executable, "-c", code, str(refusing)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "CUDA is not started here, as in a process that was forked" in out
    assert "fix: start processes with multiprocessing's spawn method" in out


def test_it_is_not_loaded_before_it_is_needed() -> None:
    code = (
        "import sys, edgeport.runtimes.cuda.memory\n"
        "print(any('libcuda' in line for line in open('/proc/self/maps')))"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"

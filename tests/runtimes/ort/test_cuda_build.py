"""The build of ONNX Runtime for CUDA, on a machine without a GPU: what it says, and what we say.

It needs a folder in which nothing but that build and numpy are installed, because two builds of
ONNX Runtime overwrite one another::

    pip install --no-deps --target DIR onnxruntime-gpu numpy
    EDGEPORT_ORT_GPU=DIR pytest tests/runtimes/ort/test_cuda_build.py
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgeport

FOLDER = os.environ.get("EDGEPORT_ORT_GPU")
pytestmark = pytest.mark.skipif(
    FOLDER is None, reason="EDGEPORT_ORT_GPU names no folder with onnxruntime-gpu"
)
ROOT = Path(edgeport.__file__).parent.parent


def run(code: str, *arguments: object) -> str:
    """Run code that sees this build alone."""
    environment = {"PYTHONPATH": f"{ROOT}:{FOLDER}", "PATH": os.environ["PATH"]}
    command = [sys.executable, "-S", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # what the engine logs is told in our words
    return done.stdout


def test_it_is_usable_on_the_cpu_and_says_what_a_gpu_lacks() -> None:
    told = run(
        "from edgeport.runtimes import probe\n"
        "for name in ('ort-cpu', 'ort-cuda'):\n"
        "    found = probe(name); print(found.usable, found.provider, found.reason)\n"
    ).splitlines()
    assert told[0] == "True CPUExecutionProvider None"
    assert told[1].startswith("False None a GPU is needed, and no NVIDIA driver is installed here")


def test_what_it_is_linked_with_is_read_from_its_file() -> None:
    told = run("from edgeport.runtimes.ort import cuda; print(*cuda._libraries())").split()
    names = [name.partition(".so.")[0] for name in told]
    assert {"libcublas", "libcublasLt", "libcudart", "libcudnn"} <= set(names)
    assert "libcuda" not in names  # the driver's own


def test_its_way_back_to_the_cpu_is_closed(packed: Path) -> None:
    told = run(
        "import sys\n"
        "from pathlib import Path\n"
        "from edgeport.runtimes import ContractError, Options\n"
        "from edgeport.runtimes.ort import cuda\n"
        "options = Options()\n"
        "asked = cuda.provider_options(options, 0)\n"
        "try:\n"
        "    cuda._open(Path(sys.argv[1]), options, asked)\n"
        "except ContractError as e:\n"
        "    print(e)\n",
        packed / "model.onnx",
    )
    assert told == (
        "asked for CUDAExecutionProvider, got CPUExecutionProvider\n"
        "  fix: edgeport doctor shows which providers work here\n"
    )


_NO_GPU = """
#include <string.h>
typedef int R;
R cuInit(unsigned flags) { return 100; }                       /* CUDA_ERROR_NO_DEVICE */
R cuDriverGetVersion(int *version) { *version = 13000; return 0; }
R cuTensorMapEncodeTiled(void) { return 100; }
static R none(void) { return 100; }
R cuGetProcAddress_v2(const char *name, void **found, int v, unsigned long long f, int *status) {
  if (status) *status = 0;
  *found = !strcmp(name, "cuInit") ? (void *)cuInit
         : !strcmp(name, "cuDriverGetVersion") ? (void *)cuDriverGetVersion : (void *)none;
  return 0;
}
"""


def test_the_provider_knows_every_option(tmp_path: Path, packed: Path) -> None:
    """It reads its options before it looks for a GPU; a driver that has none is enough for that."""
    if not any(Path(str(FOLDER)).glob("nvidia/*/lib/libcublas.so.*")):
        pytest.skip(
            "CUDA's libraries are not in the folder: pip install onnxruntime-gpu[cuda,cudnn]"
        )
    (tmp_path / "cuda.c").write_text(_NO_GPU)
    library = tmp_path / "libcuda.so.1"
    try:
        subprocess.run(
            [
                "cc",
                "-shared",
                "-fPIC",
                "-Wl,-soname,libcuda.so.1",
                tmp_path / "cuda.c",
                "-o",
                library,
            ],
            check=True,
        )
    except FileNotFoundError:
        pytest.skip("needs a C compiler")
    told = run(
        "import ctypes, sys\n"
        "from pathlib import Path\n"
        "ctypes.CDLL(sys.argv[2], mode=ctypes.RTLD_GLOBAL)\n"
        "from edgeport.runtimes import EdgeportError, Options\n"
        "from edgeport.runtimes.ort import cuda\n"
        "from edgeport.runtimes.devices import GpuOptions\n"
        "from edgeport.runtimes.shared_libraries import load_all\n"
        "import onnxruntime\n"
        "load_all(cuda._libraries())\n"
        "gpu = GpuOptions(memory_bytes=2**30, tf32=True)\n"
        "asked = cuda.provider_options(Options(gpu=gpu), 0)\n"
        "more = [('nonsense', '1'), ('cudnn_conv_algo_search', 'SLOW')]\n"
        "onnxruntime.set_default_logger_severity(4)\n"
        "for name, value in [*asked.items(), *more]:\n"
        "    provider = cuda.PROVIDER, {name: value}\n"
        "    try:\n"
        "        onnxruntime.InferenceSession(\n"
        "            sys.argv[1], providers=[provider], enable_fallback=0)\n"
        "        said = 'opened'\n"
        "    except Exception as e:\n"
        "        said = ' '.join(str(e).split())\n"
        "    print(name, value, said, sep='|')\n"
        "try:\n"
        "    cuda._open(Path(sys.argv[1]), Options(gpu=gpu), asked)\n"
        "except EdgeportError as e:\n"
        "    print(type(e).__name__, e.problem, sep='|')\n",
        packed / "model.onnx",
        library,
    ).splitlines()
    *options, nonsense, slow, opened = told
    for line in options:
        name, value, said = line.split("|")
        assert name == "device_id" or "provider option" not in said, (name, value, said)
    assert 'Unknown provider option: "nonsense"' in nonsense
    assert "Failed to map enum name to value: SLOW" in slow
    assert opened.startswith(
        "BackendMissingError|the NVIDIA driver is too old for this onnxruntime"
    )

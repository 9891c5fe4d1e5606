"""The build of ONNX Runtime for CUDA, on a machine without a GPU: what it says, and what we say.

It needs a folder in which nothing but that build and numpy are installed, because two builds of
ONNX Runtime overwrite one another::

    pip install --no-deps --target DIR onnxruntime-gpu numpy
    EDGEPORT_ORT_GPU=DIR pytest tests/runtimes/test_ort_cuda_build.py
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
    told = run("from edgeport.runtimes import ort_cuda; print(*ort_cuda._libraries())").split()
    names = [name.partition(".so.")[0] for name in told]
    assert {"libcublas", "libcublasLt", "libcudart", "libcudnn"} <= set(names)
    assert "libcuda" not in names  # the driver's own


def test_its_way_back_to_the_cpu_is_closed(packed: Path) -> None:
    told = run(
        "import sys\n"
        "from pathlib import Path\n"
        "from edgeport.runtimes import ContractError, Options, ort_cuda\n"
        "options = Options()\n"
        "asked = ort_cuda.provider_options(options, 0)\n"
        "try:\n"
        "    ort_cuda._open(Path(sys.argv[1]), options, asked)\n"
        "except ContractError as e:\n"
        "    print(e)\n",
        packed / "model.onnx",
    )
    assert told == (
        "asked for CUDAExecutionProvider, got CPUExecutionProvider\n"
        "  fix: edgeport doctor shows which providers work here\n"
    )

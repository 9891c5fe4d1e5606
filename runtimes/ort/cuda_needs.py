"""What a library that was built for CUDA needs of a machine, and which part of it is not there."""

from __future__ import annotations

from collections.abc import Iterable

from edgeport.runtimes.cuda.failures import driver_too_old
from edgeport.runtimes.cuda.gpus import Gpus
from edgeport.runtimes.devices import cuda_index, no_such_gpu
from edgeport.runtimes.errors import BackendMissingError
from edgeport.runtimes.shared_libraries import load_all


def require_cuda(
    found: Gpus, who: str, built_with: str, libraries: Iterable[str], install: str
) -> None:
    """See that the driver is new enough and all libraries are there, and load these.

    CUDA is compatible within a major version, whichever minor one a library was built with:
    https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html

    Args:
        found: What the driver says.
        who: The library that needs them, with its version.
        built_with: Its CUDA, such as ``"13.0"``; empty if it does not tell.
        libraries: The names of CUDA's libraries that it needs.
        install: The line that installs them.

    Raises:
        BackendMissingError: Something of it is not there; named in the order in which it is mended.
    """
    major = built_with.partition(".")[0]
    if major.isdecimal() and found.cuda[0] < int(major):
        raise driver_too_old(f"{who}, built with CUDA {built_with},", found.cuda)
    absent = load_all(libraries)
    if absent:
        parts = ", ".join(dict.fromkeys(_product(name) for name in absent))
        raise BackendMissingError(
            f"{who} needs {parts}, which cannot be loaded: {', '.join(absent)}",
            remedy=f"{install}; or put the folder that has it into LD_LIBRARY_PATH",
        )


def require_gpu(device: str | None, found: Gpus) -> int:
    """The number of the GPU that was asked for.

    Raises:
        BackendMissingError: There are not so many.
    """
    index = cuda_index(device)
    if index >= len(found.names):
        raise no_such_gpu(index, len(found.names))
    return index


def _product(name: str) -> str:
    """What people call a library: ``libcudnn.so.9`` is cuDNN.

    Examples:
        >>> [_product(name) for name in ("libcublasLt.so.13", "libcudnn.so.9", "libcudart.so.12")]
        ['cuBLAS', 'cuDNN', 'the CUDA runtime']
    """
    known = {
        "libcublas": "cuBLAS",
        "libcudnn": "cuDNN",
        "libcudart": "the CUDA runtime",
        "libcufft": "cuFFT",
        "libcurand": "cuRAND",
    }
    return next((said for start, said in known.items() if name.startswith(start)), name)

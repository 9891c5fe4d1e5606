"""The backend ``tensorrt-rtx``: engines of TensorRT-RTX."""

from pathlib import Path

from edgeport.runtimes.session import Availability, Options, Session

from . import library


def probe() -> Availability:
    """Usable where TensorRT-RTX is installed and an NVIDIA GPU can be used.

    Raises:
        BackendMissingError: It is not installed, or does not load.
    """
    return library.probe("tensorrt-rtx")


def open(path: Path, options: Options) -> Session:
    """Open an engine. It is code for the GPU: open only what you trust.

    Raises:
        BackendMissingError: TensorRT-RTX or a GPU is not here.
    """
    found = library.load("tensorrt-rtx")
    library.require_gpu(found, f"to run {options.name or path}")
    raise NotImplementedError

"""The backend ``tensorrt``: engines of TensorRT."""

from pathlib import Path

from edgeport.runtimes.session import Availability, Options

from . import library
from .session import TensorRTSession


def probe() -> Availability:
    """Usable where TensorRT is installed and an NVIDIA GPU can be used.

    Raises:
        BackendMissingError: It is not installed, or does not load.
    """
    return library.probe("tensorrt")


def open(path: Path, options: Options) -> TensorRTSession:
    """Open an engine. It is code for the GPU, and may bring some for the host: trust it first.

    Raises:
        BackendMissingError: TensorRT or a GPU is not here, or not the one that it was built for.
        EngineError: It is no engine or damaged, or memory is short.
        ContractError: Its signature is not the one asked for.
    """
    return TensorRTSession(library.load("tensorrt"), path, options)

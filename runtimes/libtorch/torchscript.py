"""TorchScript, on the CPU or a GPU."""

import warnings
from pathlib import Path
from typing import Any

import torch

from edgeport.runtimes.session import Availability, Options

from .calls import ExtraFiles, TorchSession, open_signed
from .device import available
from .script_graph import move_to


def probe() -> Availability:
    """Usable wherever torch imports; on a GPU, if it was built for one."""
    return available()


def open(path: Path, options: Options) -> TorchSession:
    """Open a TorchScript file that edgeport exported. It is code: open only what you trust.

    Raises:
        BackendMissingError: Torch does not have the device.
        EngineError: Torch refused it.
        FormatError: It does not carry a signature.
        ContractError: Its signature is not the one asked for.
    """

    def load(extra_files: ExtraFiles, device: torch.device) -> Any:
        with warnings.catch_warnings():  # torch 2.13 deprecates every torch.jit entry
            warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated")
            module = torch.jit.load(  # type: ignore[no-untyped-call]  # torch.jit has no types
                str(path), map_location=device, _extra_files=extra_files
            )
        if device.type != "cpu":
            move_to(module, device, tf32=options.gpu.tf32)
        return module

    return open_signed("libtorch", path, options, load)

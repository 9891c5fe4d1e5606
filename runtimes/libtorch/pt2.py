"""Exported programs (``.pt2``), on the CPU or a GPU."""

import warnings
from pathlib import Path
from typing import Any

import torch

from edgeport.runtimes.session import Availability, Options

from .calls import ExtraFiles, TorchSession, open_signed
from .device import available


def probe() -> Availability:
    """Usable wherever torch imports; on a GPU, if it was built for one."""
    return available()


def open(path: Path, options: Options) -> TorchSession:
    """Open an exported program. Loading one can run code: check its hash first.

    Raises:
        BackendMissingError: Torch does not have the device.
        EngineError: Torch refused it.
        FormatError: It does not carry a signature.
        ContractError: Its signature is not the one asked for.
    """

    def load(extra_files: ExtraFiles, device: torch.device) -> Any:
        # torch warns of a path whose suffix is another, and in a process forked from one that uses
        # CUDA, where it looks for GPUs, that it finds none
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "CUDA initialization: CUDA driver init")
            program = torch.export.load(file, extra_files=extra_files)
        if device.type != "cpu":  # also moves the devices that are written into its graph
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        return program.module()

    return open_signed("torch", path, options, load)

"""Exported programs (``.pt2``), on the CPU or a GPU."""

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from edgeport.runtimes.collector import collector_off
from edgeport.runtimes.session import Availability, Options

from .device import available
from .session import ExtraFiles, TorchSession, open_signed


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
        with (
            path.open("rb") as file,
            _some_folders(),
            warnings.catch_warnings(),
            torch.device("cpu"),  # torch makes tensors on the default device to read into
            collector_off(),  # torch imports its exporter now, and all of it stays
        ):
            warnings.filterwarnings("ignore", "CUDA initialization: CUDA driver init")
            program = torch.export.load(file, extra_files=extra_files)
        if device.type != "cpu":  # also moves the devices that are written into its graph
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        return program.module()

    return open_signed("torch", path, options, load)


@contextlib.contextmanager
def _some_folders() -> Iterator[None]:
    """On a read-only device, what torch asks for and does not need: folders that it may write to.

    It does so in modules that it imports while it loads a program.
    """
    name = "TORCHINDUCTOR_CACHE_DIR"
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        kept = os.environ.get(name)
        tempfile.tempdir = os.environ[name] = os.sep
        try:
            yield
        finally:
            tempfile.tempdir = None
            del os.environ[name]
            if kept is not None:
                os.environ[name] = kept
    else:
        yield

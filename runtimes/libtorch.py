"""TorchScript, on the CPU or a GPU."""

import warnings
from pathlib import Path
from typing import Any

import torch

from .session import Availability, Options
from .torch_calls import ExtraFiles, TorchSession, open_signed
from .torch_device import available


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
            move_devices(module, device)
        return module

    return open_signed("libtorch", path, options, load)


def move_devices(module: Any, device: torch.device) -> None:
    """Move the devices that are written into a graph: a trace keeps that of its example.

    ``map_location`` moves tensors alone, so that ``torch.arange(n, device=x.device)`` would go on
    making its tensors on the CPU. It works as long as nothing was run.

    Args:
        module: A ``torch.jit.ScriptModule``.
        device: Where everything is to be.
    """
    for part in module.modules():
        for name in part._c._method_names():
            graph = part._c._get_method(name).graph
            for node in graph.findAllNodes("prim::Constant", recurse=True):
                if node.output().type().kind() == "DeviceObjType":
                    node.s_("value", str(device))

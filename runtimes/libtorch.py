"""TorchScript, on the CPU."""

import warnings
from pathlib import Path
from typing import Final

import torch

from .errors import EngineError, FormatError
from .session import Availability, Options, check_signature
from .signature import Signature
from .torch_calls import TorchSession, last_line

EXTRA_FILE: Final = "edgeport.signature.json"


def probe() -> Availability:
    """Usable wherever torch imports."""
    return Availability(True, "torch", torch.__version__, "cpu")


def open(path: Path, options: Options) -> TorchSession:
    """Open a TorchScript file that edgeport exported. It is code: open only what you trust.

    Raises:
        EngineError: Torch refused it.
        FormatError: It does not carry a signature.
        ContractError: Its signature is not the one asked for.
    """
    extra: dict[str, str | bytes] = {EXTRA_FILE: ""}
    try:
        with warnings.catch_warnings():  # torch 2.13 deprecates every torch.jit entry
            warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated")
            module = torch.jit.load(  # type: ignore[no-untyped-call]  # torch.jit has no types
                str(path), map_location="cpu", _extra_files=extra
            )
    except Exception as e:  # RuntimeError, or whatever the archive's code raises
        raise EngineError(
            f"torch cannot open {path}: {last_line(e)}",
            remedy="check that it is a TorchScript file, and that torch is as new as its producer",
        ) from e
    if not extra[EXTRA_FILE]:
        raise FormatError(
            f"{path} carries no signature, so its inputs have no names",
            remedy="export it with edgeport",
        )
    signature = Signature.loads(extra[EXTRA_FILE], str(path))
    check_signature(path, signature, options.signature)
    return TorchSession("libtorch", module, signature, options)

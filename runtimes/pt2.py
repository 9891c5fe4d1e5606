"""Exported programs (``.pt2``), on the CPU."""

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
    """Open an exported program. Loading one can run code: check its hash first.

    Raises:
        EngineError: Torch refused it.
        FormatError: It does not carry a signature.
        ContractError: Its signature is not the one asked for.
    """
    extra = {EXTRA_FILE: ""}
    try:
        program = torch.export.load(path, extra_files=extra)
        module = program.module()
    except Exception as e:  # RuntimeError, zipfile's, json's, ...
        raise EngineError(
            f"torch cannot open {path}: {last_line(e)}",
            remedy="check that it is a .pt2 file, and that torch is as new as its producer",
        ) from e
    if not extra[EXTRA_FILE]:
        raise FormatError(
            f"{path} carries no signature, so its inputs have no names",
            remedy="export it with edgeport",
        )
    signature = Signature.loads(extra[EXTRA_FILE], str(path))
    check_signature(path, signature, options.signature)
    return TorchSession("torch", module, signature, options)

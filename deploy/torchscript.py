"""TorchScript: trace and freeze. A trace that baked something in is caught by parity."""

import io
import json

import torch
from torch import nn

from edgeport.runtimes import ExportError
from edgeport.runtimes.torch_calls import EXTRA_FILE, leaves

from .source import Source
from .upstream import cause, quiet

_WRITTEN_BY_THE_WRITER = (".data/version", ".data/serialization_id", "version", "byteorder")


class _Flat(nn.Module):
    """A module whose result is a tuple of tensors: TorchScript has no nested results."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(leaves(self.module(*inputs)))


def compile_torchscript(source: Source) -> bytes:
    """Compile to TorchScript, with the signature inside and no path of this machine.

    Raises:
        ExportError: Torch refused the module.
    """
    try:
        with quiet(), torch.no_grad():
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]  # torch.jit has no types
                _Flat(source.copy_module()).eval(), source.example_tensors(), check_trace=False
            )
            frozen = torch.jit.freeze(traced)
            buffer = io.BytesIO()
            signature = json.dumps(source.signature.to_json())
            torch.jit.save(frozen, buffer, _extra_files={EXTRA_FILE: signature})
    except Exception as e:  # tracing runs the user's code
        raise ExportError(
            f"TorchScript: cannot trace {type(source.module).__name__}: {cause(e)}",
            remedy="leave this format out with --format, or see the traceback with --debug",
        ) from e
    return _without_debug_records(buffer.getvalue())


def _without_debug_records(archive: bytes) -> bytes:
    """Copy the archive without its ``.debug_pkl`` records, which hold paths and source text."""
    reader = torch._C.PyTorchFileReader(io.BytesIO(archive))
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    for record in reader.get_all_records():
        if not record.endswith(".debug_pkl") and record not in _WRITTEN_BY_THE_WRITER:
            data = reader.get_record(record)
            writer.write_record(record, data, len(data))
    writer.write_end_of_file()
    return buffer.getvalue()

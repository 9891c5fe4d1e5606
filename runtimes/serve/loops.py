"""Does a model loop? Then the values that it is given say how long it runs, and not their size."""

import io
import mmap
import re
from typing import IO, Final

from edgeport.runtimes.bundles.bundle import Bundle
from edgeport.runtimes.bundles.manifest import Artefact
from edgeport.runtimes.safety.torch_limits import LARGEST_TEXT_BYTES, archive_members
from edgeport.runtimes.safety.zip_directory import read_member

_ONNX: Final = (b'"\x04Loop', b'"\x04Scan')
"""The operator of a NodeProto: field 4, a text of four bytes."""

_TORCH: Final = re.compile(rb"^ +(while|for) |higher_order\.(while_loop|scan)\b", re.MULTILINE)
"""In the code of TorchScript, in the graph of a ``.pt2`` file."""


def loops(bundle: Bundle, artefact: Artefact) -> bool:
    """Whether an artefact that was opened already may loop; of a compiled one nobody can say.

    Raises:
        MissingFileError: It is not there any more.
        StorageError: It cannot be read.
    """
    with bundle.files.open(artefact.stored.file) as (file, size_bytes):
        if artefact.format in ("onnx", "onnx-strings"):
            start = file.tell()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return any(data.find(each, start, start + size_bytes) >= 0 for each in _ONNX)
        if artefact.format in ("torchscript", "pt2"):
            whole = io.BytesIO(file.read(size_bytes)) if file.tell() else file
            return _torch_loops(whole, size_bytes)
    return False


def _torch_loops(file: IO[bytes], size_bytes: int) -> bool:
    members = archive_members(file, size_bytes).values()
    return any(
        _TORCH.search(read_member(file, member, LARGEST_TEXT_BYTES))
        for member in members
        if member.name.endswith((".py", "/models/model.json"))
    )

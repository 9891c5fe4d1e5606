"""The proved ONNX file in the words that TensorRT takes, which is what an engine is built from."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import onnx

from edgeport.runtimes import files
from edgeport.runtimes.tensorrt.library import Name

from .branches import flatten, own_constants
from .one_way import tell
from .operators import widen_bytes, write_out


@contextlib.contextmanager
def rewritten(path: Path, library: Name) -> Iterator[tuple[Path, bool]]:
    """The file, or another for the time being, and whether that one says what this one refuses.

    Raises:
        StorageError: It cannot be written.
    """
    model = onnx.load(path, load_external_data=False)
    tells = changed = tell(model)
    changed |= write_out(model, library)
    changed |= widen_bytes(model)
    if library == "tensorrt-rtx":
        changed |= flatten(model)
        changed |= own_constants(model)
    if not changed:
        yield path, False
        return
    other = path.with_name(f"{path.stem}.rewritten{path.suffix}")  # weights are beside it
    files.write(other, model.SerializeToString())
    try:
        yield other, tells
    finally:
        other.unlink(missing_ok=True)

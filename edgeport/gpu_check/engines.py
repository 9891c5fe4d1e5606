"""TensorRT engines for carried bundles: an engine fits one GPU, so it is built where that is."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Final

from edgeport.runtimes import Bundle, UsageError, files
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.bundles.manifest import (
    FOLDER_SIGNATURE,
    MANIFEST,
    SIGNATURE,
    Artefact,
    StoredFile,
)
from edgeport.runtimes.bundles.packing import pack
from edgeport.runtimes.session import FORMATS
from edgeport.runtimes.tensorrt.building import build
from edgeport.runtimes.tensorrt.extents import extents, in_words, shapes, values
from edgeport.runtimes.tensorrt.library import Name, load
from edgeport.runtimes.tensorrt.order import Order, Refused

from .child import Figures

BUILD_LIMIT_S: Final = 240.0


def add_engine(bundle: Path, library: Name, to: Path) -> Figures:
    """Build an engine from a bundle's ONNX, and put it into a copy of the bundle.

    Free dimensions run from the least to the greatest that the signature or, where that has no
    end, the golden samples know; it is tuned for the largest usual sample.

    Args:
        bundle: With an ``onnx`` artefact.
        library: That builds.
        to: The copy; made if it isn't there.

    Returns:
        Its size, what the library said, and why it is ``refused``, if it is.

    Raises:
        BackendMissingError: The library cannot build here.
        EngineError: The build took too long or died.
        EdgeportError: The bundle cannot be read or copied.
    """
    if not to.exists():
        pack(bundle, to)
    copy = Bundle.read(to)
    onnx = copy.artefact("ort-cpu")
    file = f"model{FORMATS[library]}"
    signature = copy.manifest.signature
    usual = _usual_sample(copy).inputs
    samples = [sample.inputs for sample in copy.golden()]
    sizes = extents(signature, usual, samples)
    order = Order(
        library,
        str(to / onnx.stored.file),
        str(to / file),
        signature,
        shapes(signature, sizes),
        values(signature, usual, samples),
        precision=onnx.precision,
    )
    answer = build(order, BUILD_LIMIT_S)
    if isinstance(answer, Refused):
        said = "; ".join(
            f"{problem.operator}: {problem.text}" if problem.operator else problem.text
            for problem in answer.problems
        )
        return {"refused": f"{library} does not {answer.phase} it: {said}"}
    data = (to / file).read_bytes()
    stored = StoredFile(file, hashlib.sha256(data).hexdigest(), len(data))
    details: dict[str, int | str] = {"engine": str(load(library))}
    if sizes:
        details["profile"] = in_words(sizes)
    engine = Artefact(library, onnx.precision, stored, details, proved=False)
    others = [each for each in copy.manifest.artefacts if each.format != library]
    for name in (SIGNATURE, FOLDER_SIGNATURE):
        (to / name).unlink(missing_ok=True)  # it is of the manifest as it was
    manifest = replace(copy.manifest, artefacts=(*others, engine))
    files.write(to / MANIFEST, manifest.dumps())
    return {"refused": None, "size_bytes": len(data), "warnings": list(answer.warnings)}


def _usual_sample(bundle: Bundle) -> Golden:
    """The largest golden sample of real or random values.

    Raises:
        UsageError: There is none.
    """
    usual = [sample for sample in bundle.golden() if sample.kind in ("real", "random")]
    if not usual:
        raise UsageError(
            f"{bundle.path} holds no golden sample of real or random values",
            remedy="export the model again with --samples",
        )
    return max(usual, key=lambda sample: sum(array.size for array in sample.inputs.values()))

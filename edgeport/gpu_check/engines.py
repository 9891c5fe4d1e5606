"""TensorRT engines for carried bundles: an engine fits one GPU, so it is built where that is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from edgeport.runtimes import Bundle, TensorSpec, UsageError, files
from edgeport.runtimes.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.manifest import MANIFEST, SIGNATURE, Artefact, StoredFile
from edgeport.runtimes.packing import pack
from edgeport.runtimes.session import FORMATS
from edgeport.runtimes.tensorrt.building import build
from edgeport.runtimes.tensorrt.library import Name
from edgeport.runtimes.tensorrt.order import Bounds, Order, Refused, Sizes

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
    order = Order(
        library,
        str(to / onnx.stored.file),
        str(to / file),
        copy.manifest.signature,
        _shapes(copy),
        _values(copy),
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
    engine = Artefact(library, onnx.precision, stored, {"engine": answer.version}, proved=False)
    others = [each for each in copy.manifest.artefacts if each.format != library]
    (to / SIGNATURE).unlink(missing_ok=True)  # it is of the manifest as it was
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


def _shapes(bundle: Bundle) -> dict[str, Bounds]:
    signature = bundle.manifest.signature
    seen: dict[str, set[int]] = {}
    for sample in bundle.golden():
        for name, size in _sizes(signature.inputs, sample.inputs).items():
            seen.setdefault(name, set()).add(size)
    usual = _sizes(signature.inputs, _usual_sample(bundle).inputs)
    lows, highs = {}, {}
    for name, sizes in seen.items():
        known = signature.range_of(name)
        lows[name] = known.min
        highs[name] = max(sizes) if known.max is None else known.max
    return {
        spec.name: Bounds(
            _at(spec, lows.__getitem__),
            _at(spec, lambda name: min(usual[name], highs[name])),
            _at(spec, highs.__getitem__),
        )
        for spec in signature.inputs
        if any(isinstance(size, str) for size in spec.shape)
    }


def _sizes(specs: tuple[TensorSpec, ...], inputs: Mapping[str, Array]) -> dict[str, int]:
    return {
        name: inputs[spec.name].shape[axis]
        for spec in specs
        for axis, name in enumerate(spec.shape)
        if isinstance(name, str)
    }


def _at(spec: TensorSpec, size: Callable[[str], int]) -> Sizes:
    return tuple(size(each) if isinstance(each, str) else each for each in spec.shape)


_MOST_VALUES: Final = 64
"""TensorRT takes no larger shape tensors."""


def _values(bundle: Bundle) -> dict[str, Bounds]:
    """Of small inputs of integers, which may say how large something is: what the samples have."""
    samples, usual = bundle.golden(), _usual_sample(bundle)
    found = {}
    for spec in bundle.manifest.signature.inputs:
        if spec.dtype not in ("int32", "int64") or any(isinstance(s, str) for s in spec.shape):
            continue
        if usual.inputs[spec.name].size > _MOST_VALUES:
            continue
        seen = [sample.inputs[spec.name].reshape(-1).tolist() for sample in samples]
        columns = list(zip(*seen, strict=True))
        found[spec.name] = Bounds(
            tuple(map(min, columns)),
            tuple(usual.inputs[spec.name].reshape(-1).tolist()),
            tuple(map(max, columns)),
        )
    return found

"""What changed from one bundle to another, as data; nothing of either is executed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from .bundle import Bundle
from .errors import FormatError
from .evidence import latencies_ns, proofs
from .manifest import Artefact
from .onnx_weights import Weight, read_weights

DIFF_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Change:
    """Something that is not the same.

    Attributes:
        what: ``"input x"``, ``"producer torch"``.
        before: ``None`` where it was not there.
        after: ``None`` where it is no more.
    """

    what: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class WeightChange:
    """A tensor of the ONNX artefact that is not the same.

    Attributes:
        before, after: Its dtype and shape; ``None`` where it is not there.
        largest: The largest absolute difference; ``None`` where the two cannot be subtracted.
        relative: The rms of the difference over the rms of what it was.
    """

    name: str
    before: str | None
    after: str | None
    largest: float | None = None
    relative: float | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed.

    Attributes:
        changes: All but the weights.
        weights: Tensors that changed; ``None`` if not both bundles hold an ONNX artefact.
        tensors: How many tensors there are in both.
    """

    changes: tuple[Change, ...]
    weights: tuple[WeightChange, ...] | None
    tensors: int

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``; the schema is versioned."""
        return {
            "diff_version": DIFF_VERSION,
            "changes": [asdict(change) for change in self.changes],
            "weights": None if self.weights is None else [asdict(w) for w in self.weights],
            "tensors": self.tensors,
        }


def compare(a: Bundle, b: Bundle) -> Difference:
    """Compare two bundles.

    Raises:
        MissingFileError: A file that is compared is not there.
        IntegrityError: It is not the one that was packed.
        FormatError: It is not what it should be.
        EngineError: There is not enough memory.
    """
    before, after = _facts(a), _facts(b)
    names = dict.fromkeys([*before, *after])
    changes = (Change(name, before.get(name), after.get(name)) for name in names)
    weights_a, weights_b = _weights(a), _weights(b)
    changed = None
    if weights_a is not None and weights_b is not None:
        changed = _changed(weights_a, weights_b)
    return Difference(
        tuple(change for change in changes if change.before != change.after),
        changed,
        len((weights_a or {}).keys() & (weights_b or {}).keys()),
    )


def _facts(bundle: Bundle) -> dict[str, str]:
    """Everything that can be told in a line, under a name that both bundles give it."""
    manifest = bundle.manifest
    signature = manifest.signature
    facts = {"name": manifest.name}
    facts |= {f"input {spec.name}": str(spec) for spec in signature.inputs}
    facts |= {f"output {spec.name}": str(spec) for spec in signature.outputs}
    facts["order of inputs"] = ", ".join(spec.name for spec in signature.inputs)
    facts["order of outputs"] = ", ".join(spec.name for spec in signature.outputs)
    facts |= {f"range of {name}": str(range_) for name, range_ in signature.ranges.items()}
    facts["nesting of outputs"] = str(signature.structure)
    for artefact in manifest.artefacts:
        facts |= _artefact_facts(artefact)
    facts["golden samples"] = f"{len(manifest.samples)}, sha256 {manifest.golden.sha256[:12]}"
    facts["thresholds"] = str(manifest.thresholds)
    facts |= {f"producer {name}": version for name, version in manifest.producer.items()}
    facts |= {f"source {name}": value for name, value in manifest.source.items()}
    for proof in proofs(bundle):
        ratio = "" if proof.worst_ratio is None else f", worst ratio {proof.worst_ratio:.3g}"
        facts[f"parity of {proof.backend}"] = f"{proof.outcome}{ratio}"
    for backend, latency_ns in latencies_ns(bundle).items():
        facts[f"median latency of {backend}"] = f"{latency_ns / 1e3:,.1f} µs"
    return facts


def _artefact_facts(artefact: Artefact) -> dict[str, str]:
    size_bytes = sum(stored.size_bytes for stored in artefact.files)
    facts = {
        f"{artefact.format} bytes": f"{size_bytes:,} B, sha256 {artefact.stored.sha256[:12]}",
        f"{artefact.format} precision": artefact.precision,
    }
    return facts | {f"{artefact.format} {key}": str(v) for key, v in artefact.details.items()}


def _weights(bundle: Bundle) -> dict[str, Weight] | None:
    found = (artefact for artefact in bundle.manifest.artefacts if artefact.format == "onnx")
    artefact = next(found, None)
    if artefact is None:
        return None
    with bundle.private(artefact) as path:
        try:
            return read_weights(path.read_bytes(), partial(_external, path.parent))
        except (ValueError, OSError) as e:
            raise FormatError(
                f"the weights of {bundle.path} cannot be read: {e}", remedy="export the model again"
            ) from e


def _external(folder: Path, name: str, offset: int, length: int | None) -> bytes:
    """A part of a file beside an artefact: a listed one, ``Bundle.private`` saw to it."""
    if offset < 0 or (length is not None and length < 0):
        raise ValueError(f"{name} is read at {offset}, {length} bytes")
    with (folder / name).open("rb") as file:
        file.seek(offset)
        return file.read(-1 if length is None else length)


def _changed(a: Mapping[str, Weight], b: Mapping[str, Weight]) -> tuple[WeightChange, ...]:
    found: list[WeightChange] = []
    for name in dict.fromkeys([*a, *b]):
        before, after = a.get(name), b.get(name)
        if before == after:
            continue
        change = WeightChange(name, _shape(before), _shape(after))
        if before and after and change.before == change.after:
            change = _measured(change, before, after)
        found.append(change)
    return tuple(found)


def _shape(weight: Weight | None) -> str | None:
    return None if weight is None else f"{weight.dtype}{list(weight.shape)}"


def _measured(change: WeightChange, before: Weight, after: Weight) -> WeightChange:
    old, new = before.values(), after.values()
    if old is None or new is None or not old.size:
        return change
    with np.errstate(all="ignore"):  # an infinity less itself
        difference = new - old
        rms = float(np.sqrt(np.mean(np.square(old))))
        relative = float(np.sqrt(np.mean(np.square(difference)))) / rms if rms else None
        largest = float(np.max(np.abs(difference)))
    finite = [v if v is not None and np.isfinite(v) else None for v in (largest, relative)]
    return WeightChange(change.name, change.before, change.after, *finite)

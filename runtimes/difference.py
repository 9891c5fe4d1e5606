"""What changed from one bundle to another, as data; nothing of either is executed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from .bundle import Bundle
from .errors import FormatError
from .evidence import latencies_ns, proofs
from .manifest import Artefact
from .weights import READABLE, Weight, read_weights

DIFF_VERSION: Final = 2


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
    """A tensor of an artefact that is not the same.

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
class Weights:
    """The weights of both artefacts of a format.

    Attributes:
        changed: Tensors that are not the same.
        tensors: How many there are in both.
    """

    changed: tuple[WeightChange, ...]
    tensors: int


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed.

    Attributes:
        changes: All but the weights.
        weights: By format: ONNX, ``.pt2`` and TorchScript, those that both bundles hold.
    """

    changes: tuple[Change, ...]
    weights: Mapping[str, Weights]

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``; the schema is versioned."""
        return {
            "diff_version": DIFF_VERSION,
            "changes": [asdict(change) for change in self.changes],
            "weights": {format_: asdict(found) for format_, found in self.weights.items()},
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
    held = [{artefact.format for artefact in bundle.manifest.artefacts} for bundle in (a, b)]
    return Difference(
        tuple(change for change in changes if change.before != change.after),
        {name: _weights(a, b, name) for name in READABLE if all(name in each for each in held)},
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


def _weights(a: Bundle, b: Bundle, format_: str) -> Weights:
    before, after = _read(a, format_), _read(b, format_)
    return Weights(_changed(before, after), len(before.keys() & after.keys()))


def _read(bundle: Bundle, format_: str) -> dict[str, Weight]:
    # a manifest has one artefact of a format
    artefact = next(each for each in bundle.manifest.artefacts if each.format == format_)
    with bundle.private(artefact) as path:
        try:
            return read_weights(path, format_)
        except (ValueError, OSError) as e:
            raise FormatError(
                f"the weights of {bundle.path / artefact.stored.file} cannot be read: {e}",
                remedy="export the model again",
            ) from e


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
    squares, largest = np.zeros(2), None
    with np.errstate(all="ignore"):  # an infinity less itself
        for old_part, new_part in zip(before.split(), after.split(), strict=False):
            old, new = old_part.values(), new_part.values()
            if old is None or new is None:
                return change
            difference = new - old
            squares += np.sum(np.square(old)), np.sum(np.square(difference))
            largest = float(np.maximum(largest or 0.0, np.max(np.abs(difference))))
        relative = float(np.sqrt(squares[1]) / np.sqrt(squares[0])) if squares[0] else None
    finite = [v if v is not None and np.isfinite(v) else None for v in (largest, relative)]
    return WeightChange(change.name, change.before, change.after, *finite)

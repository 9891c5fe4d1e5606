"""What changed from one bundle to another, as data; nothing of either is executed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from edgeport.runtimes.errors import FormatError
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.runtimes.structure import describe
from edgeport.runtimes.weights.of_artefact import READABLE, Weight, read_weights
from edgeport.runtimes.weights.rounded import as_floats

from .bundle import Bundle
from .evidence import latencies_ns, proofs
from .manifest import Artefact

DIFF_VERSION: Final = 2

_ORDERS: Final = ("order of inputs", "order of outputs")
_LONGEST_LABELS: Final = 60


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
    names = _grouped([*before, *after])
    changes = (Change(name, before.get(name), after.get(name)) for name in names)
    new = {name for name in _ORDERS if _split(before[name]) != _split(after[name])}  # told already
    held = [{artefact.format for artefact in bundle.manifest.artefacts} for bundle in (a, b)]
    return Difference(
        tuple(c for c in changes if c.before != c.after and c.what not in new),
        {name: _weights(a, b, name) for name in READABLE if all(name in each for each in held)},
    )


def _grouped(names: Sequence[str]) -> list[str]:
    """Each name once, and beside those that begin with the same word: inputs beside inputs."""
    words = list(dict.fromkeys(name.partition(" ")[0] for name in names))
    return sorted(dict.fromkeys(names), key=lambda name: words.index(name.partition(" ")[0]))


def _facts(bundle: Bundle) -> dict[str, str]:
    """Everything that can be told in a line, under a name that both bundles give it."""
    manifest = bundle.manifest
    signature = manifest.signature
    facts = {"name": manifest.name}
    sides = {"input": signature.inputs, "output": signature.outputs}
    for side, specs in sides.items():
        facts |= {f"{side} {s.name}": str(s).removeprefix(f"{s.name}: ") for s in specs}
    for name, specs in zip(_ORDERS, sides.values(), strict=True):
        facts[name] = ", ".join(spec.name for spec in specs)
    facts |= {f"range of {name}": str(range_) for name, range_ in signature.ranges.items()}
    if signature.structure is not None:
        facts["nesting of outputs"] = describe(signature.structure)
    facts |= {f"labels of {name}": _listed(labels) for name, labels in manifest.labels.items()}
    facts |= {f"note {number}": note for number, note in enumerate(manifest.notes, 1)}
    for artefact in manifest.artefacts:
        facts |= _artefact_facts(artefact)
    facts["golden samples"] = f"{len(manifest.samples)}, sha256 {manifest.golden.sha256[:12]}"
    if manifest.gap is not None:
        facts["no oracle"] = manifest.gap
    facts |= _bars(manifest.thresholds)
    facts |= {f"producer {name}": version for name, version in manifest.producer.items()}
    facts |= {f"source {name}": value for name, value in manifest.source.items()}
    for proof in proofs(bundle):
        worst = f", {proof.worst}" if proof.worst else ""
        facts[f"parity of {proof.backend}"] = f"{proof.outcome}{worst}"
    for backend, latency_ns in latencies_ns(bundle).items():
        facts[f"median latency of {backend}"] = f"{latency_ns / 1e3:,.1f} µs"
    return facts


def _split(names: str) -> list[str]:
    return sorted(names.split(", "))


def _listed(labels: Sequence[str]) -> str:
    text = ", ".join(labels)
    if len(text) <= _LONGEST_LABELS:
        return text
    digest = hashlib.sha256("\0".join(labels).encode()).hexdigest()
    return f"{len(labels)} names, sha256 {digest[:12]}"


def _bars(thresholds: Thresholds) -> dict[str, str]:
    bars = {"largest ratio": f"{thresholds.max_ratio:g}"}
    bars |= {f"largest ratio of {name}": f"{r:g}" for name, r in thresholds.outputs.items()}
    if thresholds.constant_outputs:
        bars["constant outputs"] = ", ".join(thresholds.constant_outputs)
    for precision, kept in thresholds.reduced.items():
        bars[f"bars of {precision}"] = f"{kept.min_snr_db:g} dB, {100 * kept.max_flips:g} % flips"
    return bars


def _artefact_facts(artefact: Artefact) -> dict[str, str]:
    sha256 = artefact.stored.sha256[:12]
    facts = {
        f"{artefact.format} bytes": f"{artefact.size_bytes:,} B, sha256 {sha256}",
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
    wide_a, wide_b = as_floats(a, b), as_floats(b, a)
    found: list[WeightChange] = []
    for name in dict.fromkeys([*wide_a, *wide_b]):
        before, after = wide_a.get(name), wide_b.get(name)
        change = WeightChange(name, _held(a, name, before), _held(b, name, after))
        if before == after and change.before == change.after:
            continue
        if before and after and before.shape == after.shape:
            change = _measured(change, before, after)
        found.append(change)
    return tuple(found)


def _held(weights: Mapping[str, Weight], name: str, wide: Weight | None) -> str | None:
    """Dtype and shape of a tensor, and of the integers that stand for it."""
    weight = weights.get(name) or (wide and weights[f"{name}_quantized"])
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

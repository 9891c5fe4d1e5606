"""What a bundle's reports say, read with care: they are as hostile as everything else in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from edgeport.runtimes.errors import FormatError
from edgeport.runtimes.formats.strict_json import expect, number, parse
from edgeport.runtimes.safety.private_copy import read

from .bundle import Bundle
from .manifest import EvidenceKind

_LARGEST_BYTES: Final = 2**28


@dataclass(frozen=True, slots=True)
class Proof:
    """What one backend did on the machine that made the bundle.

    Attributes:
        worst_ratio: Error over noise floor where it is largest; ``None`` where nothing has one.
        reduced: The artefact's precision, where it is narrower than the module's.
        snr_db: Signal over noise where it is least, edge cases left out; ``None`` without noise.
    """

    backend: str
    outcome: str
    engine: str
    worst_ratio: float | None
    reduced: str | None
    snr_db: float | None

    @property
    def worst(self) -> str:
        """How near it came to what it is judged by; empty where nothing was measured."""
        if self.reduced is None:
            return "" if self.worst_ratio is None else f"worst ratio {self.worst_ratio:.3g}"
        return "" if self.snr_db is None else f"{self.reduced}, {self.snr_db:.3g} dB over noise"


def proofs(bundle: Bundle) -> tuple[Proof, ...]:
    """What the parity report says; nothing if the bundle has none.

    Raises:
        MissingFileError: The report is not there.
        IntegrityError: It is not the one that was packed.
        FormatError: It is none.
    """
    report = _report(bundle, "parity")
    return tuple(_read(report, "backends", _proof, bundle))


def latencies_ns(bundle: Bundle) -> Mapping[str, float]:
    """The median latency of each backend's first variant, in ns, as the benchmark report says.

    Raises:
        EdgeportError: As ``proofs``.
    """
    if bundle.manifest.evidence.get("bench") is None:
        return {}
    latencies: dict[str, float] = {}
    for backend, latency in _read(_report(bundle, "bench"), "variants", _latency, bundle):
        if latency is not None:
            latencies.setdefault(backend, latency)
    return latencies


def _report(bundle: Bundle, kind: EvidenceKind) -> Any:
    stored = bundle.manifest.evidence.get(kind)
    if stored is None:
        return {"backends": []}
    held = bundle.files
    if stored.size_bytes > _LARGEST_BYTES:
        raise FormatError(
            f"{held.place(stored.file)} has {stored.size_bytes} bytes, "
            f"at most {_LARGEST_BYTES} are read",
            remedy="don't use this bundle",
        )
    data = read(held, stored)
    try:
        return parse(data)
    except ValueError as e:
        raise _damaged(bundle, e) from e


def _read(report: Any, key: str, each: Any, bundle: Bundle) -> list[Any]:
    try:
        entries = expect(list, expect(dict, report, "a report").get(key), key)
        return [each(expect(dict, entry, "an entry")) for entry in entries]
    except ValueError as e:
        raise _damaged(bundle, e) from e


def _proof(entry: dict[str, Any]) -> Proof:
    verdicts = expect(list, entry.get("verdicts"), "verdicts")
    kinds = [expect(dict, v, "a verdict").get("kind") for v in verdicts]
    figures = [expect(dict, v.get("figures"), "figures") for v in verdicts]
    ratios = [f.get("ratio") for f in figures]
    signals = [f.get("snr_db") for f, kind in zip(figures, kinds, strict=True) if kind != "edge"]
    reduced = entry.get("reduced")
    engine = expect(dict, entry.get("engine") or {}, "an engine")
    name = f"{engine.get('engine', '')} {engine.get('version', '')}"
    return Proof(
        expect(str, entry.get("backend"), "a backend"),
        expect(str, entry.get("outcome"), "an outcome"),
        name.strip(),
        max(_numbers(ratios, "a ratio"), default=None),
        None if reduced is None else expect(str, reduced, "a precision"),
        min(_numbers(signals, "a signal over noise"), default=None),
    )


def _numbers(values: list[Any], what: str) -> list[float]:
    return [number(value, what) for value in values if value is not None]


def _latency(entry: dict[str, Any]) -> tuple[str, float | None]:
    percentiles = expect(list, entry.get("percentiles"), "percentiles")
    for percentile in percentiles:
        found = expect(dict, percentile, "a percentile")
        if found.get("percent") == 50:
            value = expect(dict, found.get("latency_ns") or {}, "a latency").get("value")
            latency = None if value is None else number(value, "a latency")
            return expect(str, entry.get("backend"), "a backend"), latency
    return expect(str, entry.get("backend"), "a backend"), None


def _damaged(bundle: Bundle, error: ValueError) -> FormatError:
    return FormatError(
        f"a report of {bundle.path} cannot be read: {error}", remedy="export the model again"
    )

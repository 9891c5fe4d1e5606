"""Results that were written before: read with care, and compared if they can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from edgeport.runtimes.errors import FormatError, UsageError
from edgeport.runtimes.formats.strict_json import expect, parse

from .compared import MARGIN, Comparison, unpaired
from .result import BENCH_VERSION

_MACHINE: Final = ("cpu_model", "cpu_flags", "cpus", "affinity", "governor", "memory_bytes",
                   "container", "variables")  # fmt: skip
"""What must be the same: another machine is another question."""

_SOFTWARE: Final = ("edgeport", "python", "numpy", "platform")
"""What may be just what changed; it is said."""


@dataclass(frozen=True, slots=True)
class StoredVariant:
    """What a stored result says of a variant.

    Attributes:
        label: What sets it apart from the others of its result.
        key: What must be the same in both results for a comparison.
        described: What may differ, and is said: model, engine.
        medians_ns: Of each process.
    """

    label: str
    key: Mapping[str, Any]
    described: Mapping[str, Any]
    medians_ns: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored result, as far as comparing it needs."""

    name: str
    mode: str
    environment: Mapping[str, Any]
    variants: tuple[StoredVariant, ...]

    @classmethod
    def loads(cls, data: bytes, name: str) -> Stored:
        """Read the JSON of a result.

        Args:
            data: What ``edgeport bench --json`` or ``--report`` wrote.
            name: What to call it in an error.

        Raises:
            FormatError: It is none, or of another version.
        """
        try:
            told = expect(dict, parse(data), "a result")
            version = expect(int, told.get("bench_version"), "bench_version")
            if version != BENCH_VERSION:
                raise FormatError(
                    f"{name} is a result of version {version}, this edgeport compares version "
                    f"{BENCH_VERSION}",
                    remedy="measure again: edgeport bench --report FILE.json",
                )
            variants = expect(list, told.get("variants"), "variants")
            return cls(
                name,
                expect(str, told.get("mode"), "a mode"),
                expect(dict, told.get("environment"), "an environment"),
                tuple(_variant(expect(dict, each, "a variant")) for each in variants),
            )
        except ValueError as e:
            if isinstance(e, FormatError):
                raise
            raise FormatError(
                f"{name} is no result of a benchmark: {e}",
                remedy="make one: edgeport bench BUNDLE --report FILE.json",
            ) from e


@dataclass(frozen=True, slots=True)
class Compared:
    """Two stored results.

    Attributes:
        comparisons: Of the variants that both have.
        changes: What else differs, a sentence each: software, model, engine.
        left_out: Variants that only one of them has.
    """

    comparisons: tuple[Comparison, ...]
    changes: tuple[str, ...]
    left_out: tuple[str, ...]


def compare(before: Stored, after: Stored, margin: float = MARGIN) -> Compared:
    """Say of every variant that both results have whether it became faster or slower.

    The two were measured at different times, so nothing cancels: the interval is Welch's over the
    medians of the processes of each, and is wider than that of bundles measured in turn.

    Raises:
        UsageError: They were measured in different ways or on different machines, or have no
            variant in common.
    """
    _refuse_different(before, after)
    comparisons, changes = [], _changes(before.environment, after.environment, _SOFTWARE)
    matched: set[str] = set()
    for old in before.variants:
        new = next((v for v in after.variants if v.key == old.key), None)
        if new is None or not old.medians_ns or not new.medians_ns:
            continue
        matched |= {old.label, new.label}
        name, baseline = f"{new.label} of {after.name}", f"{old.label} of {before.name}"
        comparisons.append(unpaired(name, baseline, new.medians_ns, old.medians_ns, margin))
        changes += _changes(old.described, new.described, tuple(old.described))
    if not comparisons:
        raise UsageError(
            f"{before.name} and {after.name} have no variant in common: "
            f"{_labels(before)} and {_labels(after)}",
            remedy="measure both with the same backends, batches, shapes, threads and inputs",
        )
    every = dict.fromkeys(v.label for v in (*before.variants, *after.variants))
    left_out = tuple(label for label in every if label not in matched)
    return Compared(tuple(comparisons), tuple(dict.fromkeys(changes)), left_out)


def _variant(told: dict[str, Any]) -> StoredVariant:
    engine = expect(dict, told.get("engine"), "an engine")
    key = {name: told.get(name) for name in ("backend", "spinning", "engine_only", "shapes")}
    key["threads"] = engine.get("threads")
    key["provider"] = engine.get("provider")
    card = _gpu(told.get("gpu"))
    key["gpu"] = card.get("name")
    described = {
        "the model": told.get("sha256"),
        "the engine": f"{engine.get('engine')} {engine.get('version')}",
        "the GPU's driver": card.get("driver"),
    }
    return StoredVariant(
        expect(str, told.get("label"), "a label"),
        key,
        described,
        tuple(_process(each) for each in expect(list, told.get("rounds_ns"), "rounds_ns")),
    )


def _gpu(told: object) -> dict[str, Any]:
    """What the result knows of the GPU, if there was one; another GPU is another question."""
    if told is None:
        return {}
    card = expect(dict, expect(dict, told, "a gpu").get("card"), "a card")
    return expect(dict, card.get("gpu") or {}, "a GPU")


def _process(rounds: object) -> float:
    calls = [ns for each in expect(list, rounds, "rounds") for ns in expect(list, each, "calls")]
    if not calls or not all(type(ns) is int and ns > 0 for ns in calls):
        raise ValueError("a process has no calls, or durations that are none")
    return float(median(calls))


def _refuse_different(before: Stored, after: Stored) -> None:
    different = _changes(before.environment, after.environment, _MACHINE)
    if before.mode != after.mode:
        different.insert(0, f"the mode was {before.mode!r}, now {after.mode!r}")
    if different:
        raise UsageError(
            f"{before.name} and {after.name} cannot be compared: {'; '.join(different)}",
            remedy="measure both on one machine in one way; two bundles in turn: "
            "edgeport bench A.edge B.edge",
        )


def _changes(
    before: Mapping[str, Any], after: Mapping[str, Any], names: tuple[str, ...]
) -> list[str]:
    return [
        f"{name} was {_short(before.get(name))}, now {_short(after.get(name))}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _labels(stored: Stored) -> str:
    return ", ".join(variant.label for variant in stored.variants) or "nothing"

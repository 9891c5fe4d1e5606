"""How many faults does the proof find? Faults injected into correct ONNX files, by their size.

    python scripts/bench_power.py --json power.json
    python scripts/bench_power.py --modules "mlp,u-net" --kinds "dropped bias"

A module of the zoo is exported and proved. Then its ONNX file is altered in one of the ways of
``faults.py``, put in the place of the right one, and the bundle is verified as a device verifies
it. The same file is judged by the fixed rules of ``fixed_rules.py``, on one random sample.

The size of a fault is how far it moves the file's answers: the rms distance from those of the
right file in the same engine, in floors, the largest over the outputs, the golden samples and
``FRESH`` other draws of inputs. A file that an engine refuses to open or run is found by every
rule, and is not counted. Exit code 1 if a right file is refused, or a bar is missed: every fault
beyond 10 floors, 98 % of those beyond 3.
"""

import argparse
import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for the scripts beside this one
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # for the zoo

import numpy as np
import onnx
import torch
from torch import nn

from edgeport.commands.terminal import note, table
from edgeport.deploy.pipeline import export_source
from edgeport.deploy.proof.reference import Reference, make_golden
from edgeport.deploy.request import Request
from edgeport.deploy.sources.samples import Sample
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import Bundle, EdgeportError, Options, files, verify
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.bundles.manifest import StoredFile
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.rule import measure, pool_floors
from scripts.faults import KINDS
from scripts.fixed_rules import FIXED, passes
from scripts.zoo_sources import real_sample, source_of_entry

MODULES: Final = (
    "mlp", "convnet", "u-net", "text encoder", "patch transformer", "tied causal model",
    "masked attention", "upscaler", "relative bias", "resize like", "tagger", "norms",
    "spatial transformer", "video", "autoencoder", "two inputs", "integer division", "pools",
)  # fmt: skip
"""Of torch alone, so that anyone can run them, and so that every kind of fault has a place."""

MODULE_KINDS: Final = ("epsilon of a batch norm",)
"""Injected into the module, because an exporter folds it into the weights."""

FRESH: Final = 8
"""Draws of inputs, beside the golden ones, on which the size of a fault is measured."""

BANDS: Final = {"beyond 10 floors": 10.0, "beyond 3 floors": 3.0, "all": 0.0}
BARS: Final = {"beyond 10 floors": 1.0, "beyond 3 floors": 0.98}
OURS: Final = "edgeport"
RULES: Final = (OURS, *FIXED)


@dataclass(frozen=True, slots=True)
class Found:
    """One altered file.

    Attributes:
        size: In floors; infinite where structure or an integer differs.
        rules: The rules that refuse it.
        ratio: The worst of the proof.
    """

    module: str
    kind: str
    detail: str
    size: float
    rules: tuple[str, ...]
    ratio: float


@dataclass(frozen=True, slots=True)
class Case:
    """An exported module, and what its altered files are judged with.

    Attributes:
        bundle: The right one; its ONNX file is what is altered.
        fresh: Draws that are not in the bundle; the first is the random sample of the fixed rules.
        right: What the right file answers to the golden samples and the fresh ones.
    """

    name: str
    bundle: Bundle
    golden: tuple[Golden, ...]
    fresh: tuple[Golden, ...]
    right: tuple[Mapping[str, Array], ...]


def main() -> int:
    arguments = _parser().parse_args()
    found: list[Found] = []
    refused: list[str] = []
    names = [name for name in arguments.modules.split(",") if name] or MODULES
    kinds = [kind for kind in arguments.kinds.split(",") if kind] or [*KINDS, *MODULE_KINDS]
    for number, name in enumerate(names):
        alarms, faults = _module(name, kinds, arguments.seed)
        refused += alarms
        found += faults
        note(f"{number + 1} of {len(names)}  {name}: {_summary(faults)}")
        if arguments.json:
            files.write(arguments.json, json.dumps(_report(found, refused), indent=1))
    _print(found, refused)
    return 0 if not refused and all(_share(found, b) >= bar for b, bar in BARS.items()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Which injected faults the proof finds.")
    parser.add_argument("--modules", default="", help="comma-separated names of the zoo")
    parser.add_argument("--kinds", default="", help="comma-separated kinds of faults")
    parser.add_argument("--seed", type=int, default=0, help="of weights, samples, and places")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every fault")
    return parser


def _module(name: str, kinds: Sequence[str], seed: int) -> tuple[list[str], list[Found]]:
    """What the proof says to the right file, and to every altered one."""
    torch.set_num_threads(1)
    source = source_of_entry(name, seed)
    request = Request(formats=("onnx",))
    with tempfile.TemporaryDirectory() as folder:
        bundle = export_source(source, Path(folder) / "right.edge", request).bundle
        case = _case(name, source, bundle)
        report = verify(bundle, ["ort-cpu"], threads=1)
        alarms = [] if report.passed else [f"{name}: {report.backends[0].reason}"]
        found = [
            judged
            for kind, detail, data in _altered(case, source, kinds, seed, Path(folder))
            if (judged := _judged(case, kind, detail, data)) is not None
        ]
    return alarms, found


def _case(name: str, source: Source, bundle: Bundle) -> Case:
    draws = tuple(
        Sample(f"fresh {number}", "random", real_sample(name, 20_000 + number))
        for number in range(FRESH)
    )
    golden, fresh = bundle.golden(), make_golden(Reference(replace(source, samples=draws)))
    with bundle.open("ort-cpu", Options(threads=1)) as session:
        right = tuple(session.run(sample.inputs) for sample in (*golden, *fresh))
    return Case(name, bundle, golden, fresh, right)


def _altered(
    case: Case, source: Source, kinds: Sequence[str], seed: int, folder: Path
) -> Iterator[tuple[str, str, bytes]]:
    model = onnx.load_from_string(_file(case.bundle).read_bytes())
    for kind, inject in KINDS.items():
        if kind in kinds:
            generator = np.random.default_rng([seed, *kind.encode()])
            for detail, altered in inject(model, generator):
                yield kind, detail, altered.SerializeToString()
    if MODULE_KINDS[0] in kinds:
        yield from _other_epsilons(source, folder)


def _other_epsilons(source: Source, folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """The file of a module whose batch norms have another epsilon, proved against that module."""
    norms = [
        module
        for module in source.module.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    for epsilon in (1e-3, 1e-6) if norms else ():
        before = [norm.eps for norm in norms]
        for norm in norms:
            norm.eps = epsilon
        output = folder / f"epsilon{epsilon:g}.edge"
        bundle = export_source(source, output, Request(formats=("onnx",))).bundle
        for norm, eps in zip(norms, before, strict=True):
            norm.eps = eps
        yield MODULE_KINDS[0], f"{epsilon:g}", _file(bundle).read_bytes()


def _judged(case: Case, kind: str, detail: str, data: bytes) -> Found | None:
    """``None`` where the altered file does not open or run."""
    path = _file(case.bundle)
    right = path.read_bytes()
    path.write_bytes(data)
    artefact = case.bundle.artefact("ort-cpu")
    stored = StoredFile(artefact.stored.file, hashlib.sha256(data).hexdigest(), len(data))
    manifest = replace(case.bundle.manifest, artefacts=(replace(artefact, stored=stored),))
    bundle = Bundle(case.bundle.path, manifest)
    samples = (*case.golden, *case.fresh)
    try:
        with bundle.open("ort-cpu", Options(threads=1)) as session:
            answers = [session.run(sample.inputs) for sample in samples]
        report = verify(bundle, ["ort-cpu"], threads=1).backends[0]
    except EdgeportError:
        return None
    finally:
        path.write_bytes(right)
    random = len(case.golden)
    rules = [rule for rule in FIXED if not passes(rule, answers[random], samples[random].eager)]
    ratio = max((verdict.figures.ratio for verdict in report.verdicts), default=math.inf)
    refuses = [OURS] if report.outcome != "pass" else []
    size = _size(case, answers)
    return Found(case.name, kind, detail, size, (*refuses, *rules), ratio)


def _file(bundle: Bundle) -> Path:
    return bundle.path / bundle.artefact("ort-cpu").stored.file


def _size(case: Case, answers: Sequence[Mapping[str, Array]]) -> float:
    """The largest distance from the right file, in floors; edge cases don't count."""
    samples = (*case.golden, *case.fresh)
    usual = [place for place, sample in enumerate(samples) if sample.kind != "edge"]
    sizes = []
    for name, array in samples[0].eager.items():
        if array.dtype.kind != "f":
            same = all(np.array_equal(answers[i][name], case.right[i][name]) for i in usual)
            sizes.append(0.0 if same or len(samples[0].eager) > 1 else math.inf)
            continue
        floors = pool_floors(
            [measure(case.right[i][name], samples[i].eager[name], samples[i].oracle.get(name))
             for i in usual]
        )  # fmt: skip
        for place, floor in zip(usual, floors, strict=True):
            sizes.append(_distance(answers[place][name], case.right[place][name], floor.floor_rms))
    return max(sizes)


def _distance(actual: Array, right: Array, floor: float) -> float:
    if actual.shape != right.shape or not np.array_equal(np.isfinite(actual), np.isfinite(right)):
        return math.inf
    finite = np.isfinite(right)
    if not finite.any():
        return 0.0
    with np.errstate(over="ignore"):
        off = actual[finite].astype(np.float64) - right[finite].astype(np.float64)
        distance = float(np.sqrt(np.square(off).mean()))
    return 0.0 if distance == 0 else distance / floor if floor > 0 else math.inf


def _summary(faults: Sequence[Found]) -> str:
    missed = [fault for fault in faults if OURS not in fault.rules and fault.size > 3]
    return f"{len(faults)} faults, {len(missed)} beyond 3 floors missed"


def _share(found: Sequence[Found], band: str, rule: str = OURS) -> float:
    within = [fault for fault in found if fault.size > BANDS[band] or BANDS[band] == 0]
    return sum(rule in fault.rules for fault in within) / max(1, len(within))


def _report(found: Sequence[Found], refused: Sequence[str]) -> dict[str, Any]:
    return {
        "bench_power_version": 1,
        "modules": len({fault.module for fault in found}),
        "kinds": len({fault.kind for fault in found}),
        "right_files_refused": list(refused),
        "shares": {band: {rule: _share(found, band, rule) for rule in RULES} for band in BANDS},
        "faults": [
            {
                **asdict(fault),
                "size": fault.size if math.isfinite(fault.size) else None,
                "ratio": fault.ratio if math.isfinite(fault.ratio) else None,
            }
            for fault in found
        ],
    }


def _print(found: Sequence[Found], refused: Sequence[str]) -> None:
    rows = []
    for kind in dict.fromkeys(fault.kind for fault in found):
        own = [fault for fault in found if fault.kind == kind]
        modules = str(len({fault.module for fault in own}))
        counts = [sum(fault.size > bar for fault in own) for bar in BANDS.values()]
        shares = [f"{100 * _share(own, 'all', rule):.0f}" for rule in RULES]
        missed = sum(fault.size > 3 and OURS not in fault.rules for fault in own)
        rows.append([kind, modules, str(len(own)), *map(str, counts[:2]), *shares, str(missed)])
    header = ["fault", "modules", "files", ">10", ">3", *(f"{rule} %" for rule in RULES)]
    print(table([*header, "missed >3"], rows, right=range(1, 11)))
    print()
    rows = [
        [
            band,
            str(sum(fault.size > bar or bar == 0 for fault in found)),
            *(f"{100 * _share(found, band, rule):.1f} %" for rule in RULES),
        ]
        for band, bar in BANDS.items()
    ]
    print(table(["size", "files", *RULES], rows, right=range(1, 7)))
    missed_ = [fault for fault in found if OURS not in fault.rules and fault.size > 3]
    for fault in sorted(missed_, key=lambda fault: -fault.size)[:40]:
        print(
            f"missed: {fault.module}, {fault.kind}: {fault.detail}, {fault.size:.3g} floors, "
            f"ratio {fault.ratio:.3g}"
        )
    print(f"right files refused: {len(refused)}", *refused, sep="\n  ")


if __name__ == "__main__":
    raise SystemExit(main())

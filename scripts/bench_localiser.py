"""Does the localiser name the right module, and how long does it take?

    python scripts/bench_localiser.py
    python scripts/bench_localiser.py --only "convnet,vision transformer" --json localiser.json

Correct ONNX files of the zoo's modules are broken in one layer each: a weight scaled, a bias
dropped, an axis changed. What parity then refuses is given to the localiser, once with the private
map from nodes to modules and once with the file alone. It is right if the module it names is the
one whose weight or node was broken; where an exporter fused two modules into one node, either.

The time is compared with that of the verification: eager and oracle on every sample, and every
sample on ONNX Runtime with and without its optimiser, sessions opened. Medians over each network's
faults; CPU time of the process, one thread.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for the scripts beside this one
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # for the zoo

import onnx
import torch
import zoo

from edgeport.commands.terminal import note, table
from edgeport.deploy import Source, source_of
from edgeport.deploy.compilers.routes import routes
from edgeport.deploy.compilers.stored import Compiled
from edgeport.deploy.compilers.targets import negotiate
from edgeport.deploy.compilers.upstream import inference_only, quiet
from edgeport.deploy.proof.localiser import choose_sample, localise
from edgeport.deploy.proof.reference import Reference, make_golden
from edgeport.runtimes import EdgeportError
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.runtimes.parity.verdict import Verdict
from edgeport.runtimes.parity.verification import check_session
from edgeport.runtimes.session import Options, open_artefact
from scripts.faults.in_layers import Fault, faults

NETWORKS: Final = (
    "mlp",
    "convnet",
    "u-net",
    "dilated audio",
    "patch transformer",
    "norms",
    "upscaler",
    "lstm",
    "gru of two directions",
    "text encoder",
    "tied causal model",
    "masked attention",
    "encoder and decoder",
    "relative bias",
    "siamese",
)
"""Convolution, attention, recurrence; small enough that ten minutes are enough."""


@dataclass(frozen=True, slots=True)
class Case:
    """One fault, and what the localiser said."""

    network: str
    fault: str
    node: str
    truth: tuple[str, ...]
    with_map: str
    file_alone: str
    localise_s: float
    verify_s: float
    engines_s: float


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(NETWORKS), metavar="NAME,...")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cases: list[Case] = []
    for name in arguments.only.split(","):
        found = list(_network(name))
        note(f"{name}: {_share(found)}")
        for case in _missed(found):
            note(f"  {case}")
        cases += found
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(case) for case in cases], indent=1))
    _print(cases)
    return 0


def _network(name: str) -> Iterator[Case]:
    entry = zoo.ZOO[name]
    source = source_of(name, zoo.make(name), zoo.inputs(name), entry.dimensions, entry.ranges)
    with tempfile.TemporaryDirectory() as folder:
        compiled = _compiled(source, Path(folder))
        model = onnx.load(Path(folder) / "model.onnx")
        golden, golden_s = _timed(lambda: make_golden(Reference(source)))
        assert choose_sample(golden, _verify(Path(folder) / "model.onnx", golden)) is None
        for fault in faults(model, compiled.debug_map or ""):
            path = Path(folder) / "broken.onnx"
            onnx.save(fault.model, path)
            case = _case(source, path, fault, golden, golden_s, compiled.debug_map)
            if case is not None:
                yield case


def _compiled(source: Source, folder: Path) -> Compiled:
    """By the first route that takes the module; the caller sees whether it is right."""
    for route in routes("onnx", negotiate()):
        with contextlib.suppress(Exception), quiet(), inference_only():
            return route.compile(source, folder)
    raise SystemExit(f"{source.name}: no route to ONNX")


def _case(
    source: Source,
    path: Path,
    fault: Fault,
    golden: Sequence[Golden],
    golden_s: float,
    debug_map: str | None,
) -> Case | None:
    try:
        verdicts, engines_s = _timed(lambda: _verify(path, golden))
    except EdgeportError:
        return None  # the file does not run, which is no question of values
    sample = choose_sample(golden, verdicts)
    if sample is None:
        return None  # smaller than parity sees
    found, first_s = _timed(lambda: localise(source, path, sample, debug_map=debug_map))
    alone, second_s = _timed(lambda: localise(source, path, sample))
    return Case(
        source.name,
        fault.kind,
        fault.node,
        fault.modules,
        found.module,
        alone.module,
        (first_s + second_s) / 2,
        golden_s + engines_s,
        engines_s,
    )


def _verify(path: Path, golden: Sequence[Golden]) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for optimize in (True, False):
        with open_artefact(path, "ort-cpu", Options(threads=1, optimize=optimize)) as session:
            verdicts += check_session(session, golden, Thresholds())
    return verdicts


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    return call(), time.process_time() - start


def _share(cases: Sequence[Case]) -> str:
    with_map = sum(case.with_map in case.truth for case in cases)
    alone = sum(case.file_alone in case.truth for case in cases)
    return f"{len(cases)} faults, right with the map {with_map}, with the file alone {alone}"


def _print(cases: Sequence[Case]) -> None:
    rows = []
    for name in dict.fromkeys(case.network for case in cases):
        own = [case for case in cases if case.network == name]
        rows.append([name, *_row(own)])
    rows.append(["all", *_row(cases)])
    heads = ["network", "faults", "with map", "file alone", "localise ms", "of verification",
             "of the engines' part"]  # fmt: skip
    print(table(heads, rows))
    print()
    kinds = Counter(case.fault for case in cases)
    print(
        table(
            ["fault", "faults", "with map", "file alone"],
            [[kind, *_row([c for c in cases if c.fault == kind])[:3]] for kind in kinds],
        )
    )


def _missed(cases: Sequence[Case]) -> Iterator[str]:
    for case in cases:
        if not {case.with_map, case.file_alone} <= {*case.truth}:
            yield (
                f"{case.fault} at {case.node}: is {' or '.join(map(repr, case.truth))}, "
                f"said {case.with_map!r}, with the file alone {case.file_alone!r}"
            )


def _row(cases: Sequence[Case]) -> list[str]:
    count = len(cases)
    right = [sum(c.with_map in c.truth for c in cases), sum(c.file_alone in c.truth for c in cases)]
    return [
        str(count),
        *(f"{100 * n / count:.1f} %" for n in right),
        f"{1e3 * statistics.median(c.localise_s for c in cases):.0f}",
        f"{statistics.median(c.localise_s / c.verify_s for c in cases):.2f}",
        f"{statistics.median(c.localise_s / c.engines_s for c in cases):.2f}",
    ]


if __name__ == "__main__":
    raise SystemExit(main())

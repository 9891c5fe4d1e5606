"""What a proof costs: verifying a bundle, in units of one eager float64 pass over its samples.

    python scripts/bench_proof_cost.py
    python scripts/bench_proof_cost.py --module "vision transformer" --side 32

The default samples of an image model with a free batch: 1, 2, 7 and 32 images, and three edge
cases of 2. A verification hashes the files, opens the engine, runs every sample and measures every
output. Both are timed in turn, with one thread; the figure is the median of the rounds' ratios.
The module is an image network of the zoo; ResNet18 needs torchvision. Exit code 1 above the bar.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # for the zoo

import torch
import zoo

from edgeport.commands.terminal import note, table
from edgeport.deploy.exporter import source_of
from edgeport.deploy.pipeline import export_source
from edgeport.deploy.proof.oracle import Oracle
from edgeport.deploy.request import Request
from edgeport.deploy.sources.running import run_module
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import verify

BAR: Final = 5.0
ROUNDS: Final = 3


def _float64_pass(oracle: Oracle, source: Source) -> None:
    with oracle.in_float64():
        for sample in source.samples:
            run_module(oracle.flat, sample.inputs)


def main() -> int:
    arguments = _parser().parse_args()
    torch.set_num_threads(1)
    source = _source(arguments.module, arguments.side)
    oracle = Oracle(source.flat)
    with tempfile.TemporaryDirectory() as folder:
        note(f"exporting {arguments.module} at {arguments.side} x {arguments.side}")
        bundle = export_source(source, Path(folder) / "m.edge", Request(formats=("onnx",))).bundle
        rounds = []
        for number in range(arguments.rounds):
            note(f"round {number + 1} of {arguments.rounds}")
            oracle_s = _seconds(lambda: _float64_pass(oracle, source))
            verify_s = _seconds(lambda: verify(bundle, ["ort-cpu"], threads=1))
            rounds.append({"float64_s": oracle_s, "verify_s": verify_s})
    ratio = statistics.median(each["verify_s"] / each["float64_s"] for each in rounds)
    rows = [
        [str(n + 1), f"{r['float64_s']:.2f}", f"{r['verify_s']:.2f}"] for n, r in enumerate(rounds)
    ]
    print(table(["round", "float64 pass, s", "verify, s"], rows, right=[1, 2]))
    print(f"{arguments.module}: a proof costs {ratio:.2f} float64 passes; bar {BAR:g}")
    print(json.dumps(_report(arguments.module, arguments.side, source, ratio, rounds)))
    return 0 if ratio <= BAR else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Cost of a proof, in float64 passes.")
    parser.add_argument("--module", default="resnet18", help="an image network of the zoo")
    parser.add_argument("--side", type=int, default=224, help="pixels (224)")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    return parser


def _source(name: str, side: int) -> Source:
    if name not in zoo.ZOO or not {"x", "image", "input"} & set(zoo.ZOO[name].inputs()):
        raise SystemExit(f"no image network of the zoo is named {name!r}")
    lacking = [need for need in zoo.ZOO[name].needs if importlib.util.find_spec(need) is None]
    if lacking:
        raise SystemExit(f"{name} needs {', '.join(lacking)}; choose another with --module")
    (key, usual), *_ = zoo.inputs(name).items()
    example = {key: torch.randn(2, usual.shape[1], side, side)}
    return source_of(name, zoo.make(name), example, {key: {0: "batch"}})


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _report(
    name: str, side: int, source: Source, ratio: float, rounds: list[dict[str, float]]
) -> dict[str, Any]:
    return {
        "bench_proof_cost_version": 1,
        "module": name,
        "side": side,
        "samples": [sample.name for sample in source.samples],
        "ratio": ratio,
        "bar": BAR,
        "rounds": rounds,
    }


if __name__ == "__main__":
    raise SystemExit(main())

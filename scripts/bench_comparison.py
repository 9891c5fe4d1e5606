"""How often the benchmark calls equals different, and how often it finds a planted slow-down.

    python scripts/bench_comparison.py --equals 100 --seconds 10
    python scripts/bench_comparison.py --planted 20 --seconds 60

Equals are two copies of one bundle. The slow-down is planted by work: a chain of 40 equal layers,
and one of 42. ``--busy`` keeps another process computing meanwhile. The last line is JSON with
every ratio and verdict.
"""

import argparse
import json
import multiprocessing
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.commands.terminal import note
from edgeport.runtimes import Bundle
from edgeport.runtimes.bench import Sweep, benchmark

LAYERS = 40
PLANTED = 42


def main() -> int:
    parser = argparse.ArgumentParser(description="False and missed differences.")
    parser.add_argument("--equals", type=int, default=0, metavar="RUNS")
    parser.add_argument("--planted", type=int, default=0, metavar="RUNS")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--busy", action="store_true", help="with another process computing")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, _load(args.busy):
        folder = Path(place)
        chain = _chain(folder / "chain.edge", LAYERS)
        found: dict[str, Any] = {"comparison_version": 1, "seconds": args.seconds}
        if args.equals:
            shutil.copytree(chain, folder / "copy.edge")
            found["equals"] = _runs(chain, folder / "copy.edge", args.equals, args)
        if args.planted:
            slower = _chain(folder / "slower.edge", PLANTED)
            found["planted"] = _runs(chain, slower, args.planted, args)
    for kind in ("equals", "planted"):
        if kind in found:
            counts = Counter(run["verdict"] for run in found[kind])
            ratios = [run["ratio"]["value"] for run in found[kind]]
            print(f"{kind}: {dict(counts)}, median ratio {np.median(ratios):.3f}")
    print(json.dumps(found))
    return 0


def _runs(baseline: Path, other: Path, runs: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    for seed in range(runs):
        result = benchmark(
            [Bundle.read(baseline), Bundle.read(other)],
            Sweep(("ort-cpu",), threads=(1,)),
            budget_s=args.seconds,
            processes=args.processes,
            seed=seed,
        )
        (comparison,) = result.comparisons
        ratio = comparison.ratio
        found.append(
            {
                "verdict": comparison.verdict,
                "ratio": {"value": ratio.value, "low": ratio.low, "high": ratio.high},
                "noise": comparison.noise,
                "load": result.environment.load_average,
            }
        )
        note(f"{seed + 1} of {runs}: {comparison.verdict} {ratio.value:.4f}")
    return found


def _chain(path: Path, layers: int) -> Path:
    import torch
    from torch import nn

    from edgeport import deploy

    torch.manual_seed(0)
    modules: list[nn.Module] = []
    for _ in range(layers):
        modules += [nn.Linear(96, 96), nn.LayerNorm(96), nn.ReLU()]
    deploy.export(
        nn.Sequential(*modules).eval(), {"x": torch.randn(2, 96)}, path,
        dimensions={"x": {0: "batch"}}, formats=("onnx",),
    )  # fmt: skip  # one call
    return path


@contextmanager
def _load(busy: bool) -> Iterator[None]:
    if not busy:
        yield
        return
    worker = multiprocessing.get_context("spawn").Process(target=_compute, daemon=True)
    worker.start()
    try:
        yield
    finally:
        worker.terminate()
        worker.join()


def _compute() -> None:
    """Bursts of matrix products with pauses, as somebody else's job has."""
    import time

    generator = np.random.default_rng()
    matrix = generator.normal(size=(300, 300))
    while True:
        end = time.monotonic() + generator.exponential(0.5)
        while time.monotonic() < end:
            np.matmul(matrix, matrix)
        time.sleep(generator.exponential(0.5))


if __name__ == "__main__":
    raise SystemExit(main())

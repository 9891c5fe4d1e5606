"""Whether the benchmark's 95 % intervals hold the long-run value as often as they say.

    python scripts/bench_coverage.py BUNDLE --live 200         # 200 benchmarks one after the other
    python scripts/bench_coverage.py BUNDLE --record t.npz --processes 200
    python scripts/bench_coverage.py --replay t.npz --runs 200  # benchmarks drawn from a trace

Live, every benchmark is one of ``--processes`` fresh processes (default 5) in ``--seconds``; the
long-run value is the percentile of all calls of all of them. ``--join 1,4,13`` asks as well what
4 and 13 of them in a row would have said, had they been one. A replay takes as many processes in a
row from a random place of the trace as a benchmark has, so that they share the machine's drift.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from edgeport.commands.terminal import progress, table
from edgeport.runtimes import Bundle
from edgeport.runtimes.bench import Sweep, benchmark
from edgeport.runtimes.bench.loops import Durations
from edgeport.runtimes.bench.statistics import nearest_rank, percentile_intervals

PERCENTS = (50.0, 90.0)


def main() -> int:
    parser = argparse.ArgumentParser(description="Coverage of the benchmark's intervals.")
    parser.add_argument("bundle", nargs="?", type=Path)
    parser.add_argument("--backend", default="ort-cpu")
    parser.add_argument("--live", type=int, metavar="RUNS")
    parser.add_argument("--record", type=Path, metavar="FILE")
    parser.add_argument("--replay", type=Path, metavar="FILE")
    parser.add_argument("--runs", type=int, default=200, help="of a replay")
    parser.add_argument("--processes", type=int, default=5, help="of a benchmark, or of a trace")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a benchmark, or of a trace")
    parser.add_argument("--join", default="1", metavar="N,N", help="live benchmarks in a row")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.replay:
        trace = np.load(args.replay)["rounds_ns"]
        runs = _drawn(trace, args.runs, args.processes, args.seed)
        _report(list(runs), trace)
        return 0
    if args.bundle is None:
        parser.error("a bundle is needed to measure")
    bundle = Bundle.read(args.bundle)
    if args.record:
        trace = _measured(bundle, args.backend, args.processes, args.seconds, args.seed)
        np.savez_compressed(args.record, rounds_ns=trace)
        return 0
    found = []
    with progress("benchmarks", args.live) as bar:
        for run in range(args.live):
            found.append(_measured(bundle, args.backend, args.processes, args.seconds, run))
            bar.update(run + 1)
    rounds, calls = (min(each.shape[axis] for each in found) for axis in (1, 2))
    alike = [each[:, :rounds, :calls] for each in found]
    for count in map(int, args.join.split(",")):
        starts = range(len(alike) - count + 1)
        joined = [np.concatenate(alike[start : start + count]) for start in starts]
        _report(joined, np.concatenate(alike))
    return 0


def _measured(bundle: Bundle, backend: str, processes: int, seconds: float, seed: int) -> Durations:
    sweep = Sweep((backend,), threads=(1,))
    result = benchmark([bundle], sweep, budget_s=seconds, processes=processes, seed=seed)
    return result.variants[0].rounds_ns[:, :, :100]  # calls beyond the hundredth add little


def _drawn(trace: Durations, runs: int, processes: int, seed: int) -> Iterable[Durations]:
    generator = np.random.default_rng(seed)
    for _ in range(runs):
        first = int(generator.integers(0, len(trace) - processes + 1))
        yield trace[first : first + processes]


def _report(runs: Sequence[Durations], everything: Durations) -> None:
    rows, told = [], []
    for percent in PERCENTS:
        truth = nearest_rank(everything, percent)
        held, widths = 0, []
        for seed, run in enumerate(runs):
            (interval,) = percentile_intervals(run, (percent,), seed=seed)
            if interval.low is None or interval.high is None:
                raise SystemExit("too few rounds or processes for an interval")
            held += interval.low <= truth <= interval.high
            widths.append((interval.high - interval.low) / truth)
        share = held / len(runs)
        rows.append(
            [f"p{percent:g}", f"{truth / 1e3:.2f}", f"{share:.1%}", f"{np.median(widths):.1%}"]
        )
        told.append({"percent": percent, "truth_ns": truth, "coverage": share,
                     "median_width": float(np.median(widths))})  # fmt: skip
    print(table(["", "long-run µs", "held by", "median width"], rows, right=(1, 2, 3)))
    shape = runs[0].shape
    print(json.dumps({"coverage_version": 2, "runs": len(runs), "shape": shape, "percents": told}))


if __name__ == "__main__":
    raise SystemExit(main())

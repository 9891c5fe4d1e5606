"""Whether our clock agrees with MLPerf LoadGen's, which drives the same session.

    pip install mlcommons-loadgen==6.0.17
    python scripts/bench_loadgen.py digits.edge

LoadGen's single-stream scenario and our closed loop take turns on one open session, a round each.
The medians must agree within 20 us and 1 %: LoadGen crosses into Python and back for every query,
which ours doesn't. The last line is JSON; the exit code is 1 if they don't agree.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.commands.terminal import note, table
from edgeport.runtimes import Bundle, Options
from edgeport.runtimes.bench import loops
from edgeport.runtimes.bench.statistics import nearest_rank
from edgeport.runtimes.bench.workload import Workload, feed

ROUNDS = 7
ROUND_MS = 1500
ALLOWED_NS = 20_000
ALLOWED_SHARE = 0.01


def main() -> int:
    parser = argparse.ArgumentParser(description="Our clock beside LoadGen's.")
    parser.add_argument("bundles", nargs="+", type=Path)
    args = parser.parse_args()
    found = [_compared(Bundle.read(path)) for path in args.bundles]
    rows = [
        [f["name"], *(f"{f[key] / 1e3:.1f}" for key in ("ours_ns", "loadgen_ns", "apart_ns")),
         "yes" if f["agrees"] else "NO"]
        for f in found
    ]  # fmt: skip
    print(table(["bundle", "ours µs", "LoadGen µs", "apart µs", "agrees"], rows, right=(1, 2, 3)))
    print(json.dumps({"loadgen_version": 1, "bundles": found}))
    return 0 if all(f["agrees"] for f in found) else 1


def _compared(bundle: Bundle) -> dict[str, Any]:
    inputs = feed(bundle, Workload()).inputs
    ours: list[int] = []
    theirs: list[int] = []
    with bundle.open("ort-cpu", Options(threads=1)) as session:

        def call() -> object:
            return session.run(inputs)

        warm = loops.warm_up(call, 50, 300_000_000, 5000)
        calls = max(20, int(ROUND_MS * 1e6 / float(np.median(warm[20:]))))
        for number in range(ROUNDS):
            note(f"{bundle.manifest.name}: round {number + 1} of {ROUNDS}")
            theirs.append(_loadgen(call))
            durations = np.full(min(calls, 100_000), -1, np.int64)
            loops.closed(call, durations)
            ours.append(nearest_rank(durations, 50))
    middle, other = float(np.median(ours)), float(np.median(theirs))
    apart = float(np.median(np.array(theirs) - np.array(ours)))
    return {
        "name": bundle.manifest.name,
        "ours_ns": middle,
        "loadgen_ns": other,
        "apart_ns": apart,
        "rounds_ours_ns": ours,
        "rounds_loadgen_ns": theirs,
        "agrees": abs(apart) <= ALLOWED_NS + ALLOWED_SHARE * middle,
    }


def _loadgen(call: Callable[[], object]) -> int:
    """The median latency of a single-stream run, in ns, as LoadGen's log says it."""
    lg: Any = import_module("mlperf_loadgen")  # not in our environment: only this script needs it

    def issue(samples: Sequence[Any]) -> None:
        for sample in samples:
            call()
            lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0)])

    settings = lg.TestSettings()
    settings.scenario = lg.TestScenario.SingleStream
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = ROUND_MS
    settings.min_query_count = 100
    with tempfile.TemporaryDirectory() as folder:
        logs = lg.LogSettings()
        logs.log_output.outdir = folder
        logs.log_output.copy_summary_to_stdout = False
        logs.enable_trace = False
        sut = lg.ConstructSUT(issue, lambda: None)
        qsl = lg.ConstructQSL(1, 1, lambda _: None, lambda _: None)
        try:
            lg.StartTestWithLogSettings(sut, qsl, settings, logs)
        finally:
            lg.DestroyQSL(qsl)
            lg.DestroySUT(sut)
        told = (Path(folder) / "mlperf_log_summary.txt").read_text("utf-8")
    found = re.search(r"50\.00 percentile latency \(ns\)\s*:\s*(\d+)", told)
    if found is None:
        raise SystemExit(f"LoadGen's summary has no median:\n{told}")
    return int(found[1])


if __name__ == "__main__":
    raise SystemExit(main())

"""What edgeport's session costs over the engine's own call, at batch 1 on ONNX Runtime.

    python scripts/bench_overhead.py digits.edge

Two sessions of one file differ by a stable 0.1 to 3 %, so ours is timed against the very engine
session that is inside it ("same"), and against a separate one of the same file and thread count
("separate"), for several pairs. A ratio is the median over rounds of the ratio of the rounds'
medians. Exit code 1 if the median "same" ratio is above the bar.
"""

import argparse
import json
import statistics
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import onnxruntime

from edgeport.commands.terminal import note, table
from edgeport.runtimes import Bundle, Options
from edgeport.runtimes.bench import measure
from edgeport.runtimes.bench.batch import batch_inputs
from edgeport.runtimes.bench.measure import Run
from edgeport.runtimes.bench.statistics import paired_ratio
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.ort import PROVIDER, OrtSession

PAIRS = 5
BUDGET_S = 4.0  # per pair
BAR, WANTED = 1.25, 1.05


def main() -> int:
    parser = argparse.ArgumentParser(description="Cost of a session over the raw call.")
    parser.add_argument("bundle", type=Path)
    bundle = Bundle.read(parser.parse_args().bundle)
    _, inputs = batch_inputs(bundle, 1)
    pairs = []
    for seed in range(PAIRS):
        note(f"pair {seed + 1} of {PAIRS}")
        pairs.append(_pair(bundle, inputs, seed))
    same = statistics.median(pair["same"]["value"] for pair in pairs)
    print(table(["pair", "raw µs", "ours µs", "ours / same", "ours / separate"], _rows(pairs)))
    print(f"overhead: {same:.3f} times the raw call; bar {BAR}, wanted {WANTED}")
    print(json.dumps({"overhead_version": 1, "ratio": same, "bar": BAR, "pairs": pairs}))
    return 0 if same <= BAR else 1


def _pair(bundle: Bundle, inputs: Mapping[str, Array], seed: int) -> dict[str, Any]:
    with bundle.open("ort-cpu", Options(threads=1)) as session:
        ours = cast(OrtSession, session)  # what that backend opens
        outputs = [spec.name for spec in ours.signature.outputs]
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        file = bundle.checked(bundle.artefact("ort-cpu").stored)
        separate = onnxruntime.InferenceSession(str(file), settings, providers=[PROVIDER])
        runs: dict[str, Run] = {
            "ours": ours.run,
            "same": partial(ours._session.run, outputs),
            "separate": partial(separate.run, outputs),
        }
        rounds = measure(runs, inputs, budget_s=BUDGET_S, seed=seed).rounds_ns
    medians = {name: statistics.median(d.ravel().tolist()) for name, d in rounds.items()}
    found: dict[str, Any] = {"seed": seed, "median_ns": medians}
    for raw in ("same", "separate"):
        ratio = paired_ratio(rounds["ours"], rounds[raw], seed=seed)
        found[raw] = {"value": ratio.value, "low": ratio.low, "high": ratio.high}
    return found


def _rows(pairs: list[dict[str, Any]]) -> list[list[str]]:
    def ratio(r: dict[str, float]) -> str:
        return f"{r['value']:.3f} ({r['low']:.3f} to {r['high']:.3f})"

    return [
        [
            str(pair["seed"]),
            f"{pair['median_ns']['same'] / 1e3:.2f}",
            f"{pair['median_ns']['ours'] / 1e3:.2f}",
            ratio(pair["same"]),
            ratio(pair["separate"]),
        ]
        for pair in pairs
    ]


if __name__ == "__main__":
    raise SystemExit(main())

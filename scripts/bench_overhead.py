"""What edgeport's session costs over the engine's own calls, on ONNX Runtime, one thread.

    python scripts/bench_overhead.py                   # linear 4 to 1, MLP 64-128-10, digits CNN
    python scripts/bench_overhead.py a.edge b.edge     # bundles of yours

Three ways to the same answer are timed in turn, on the very engine session that is inside ours:

    ours      session.run: inputs checked, outputs that the caller owns
    run       InferenceSession.run(names, feed)
    bound     run_with_iobinding of buffers that were bound before, one RunOptions for all calls;
              inputs copied in, outputs copied out: the best that its public interface can do

A ratio is the median over rounds of the ratio of the rounds' medians, with its interval.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime

from edgeport.commands.terminal import note, table
from edgeport.runtimes import Bundle, Options
from edgeport.runtimes.bench import measure
from edgeport.runtimes.bench.batch import batch_inputs
from edgeport.runtimes.bench.measure import Run
from edgeport.runtimes.bench.statistics import paired_ratio
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.ort import OrtSession

BUDGET_S = 10.0  # per bundle


def main() -> int:
    parser = argparse.ArgumentParser(description="Cost of a session over the raw calls.")
    parser.add_argument("bundles", nargs="*", type=Path)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = [_timed(Bundle.read(path)) for path in args.bundles or _examples(Path(folder))]
    header = ["bundle", "ours µs", "run µs", "bound µs", "ours / run", "ours / bound"]
    print(table(header, [_row(each) for each in found], right=(1, 2, 3)))
    result = json.dumps({"overhead_version": 2, "bundles": found})
    if args.json:
        args.json.write_text(result)
    return 0


def _examples(folder: Path) -> list[Path]:
    import torch
    from torch import nn

    from edgeport import deploy
    from edgeport.training.models.small_cnn import SmallCnn

    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    modules = {
        "linear": (nn.Linear(4, 1), (4,)),
        "mlp": (mlp, (64,)),
        "digits": (SmallCnn(), (1, 8, 8)),
    }
    for name, (module, shape) in modules.items():
        note(f"exporting {name}")
        deploy.export(
            module.eval(),
            {"x": torch.randn(2, *shape)},
            folder / f"{name}.edge",
            dimensions={"x": {0: "batch"}},
            formats=("onnx",),
        )
    return [folder / f"{name}.edge" for name in modules]


def _timed(bundle: Bundle) -> dict[str, Any]:
    _, inputs = batch_inputs(bundle, 1)
    note(f"timing {bundle.manifest.name}")
    with bundle.open("ort-cpu", Options(threads=1)) as session:
        ours = cast(OrtSession, session)  # what that backend opens
        outputs = [spec.name for spec in ours.signature.outputs]
        runs: dict[str, Run] = {
            "ours": ours.run,
            "run": lambda feed: ours._session.run(outputs, feed),
            "bound": _bound(ours._session, inputs, ours.run(inputs)),
        }
        rounds = measure(runs, inputs, budget_s=BUDGET_S).rounds_ns
    found: dict[str, Any] = {"name": bundle.manifest.name}
    found["median_ns"] = {name: float(np.median(each)) for name, each in rounds.items()}
    for raw in ("run", "bound"):
        ratio = paired_ratio(rounds["ours"], rounds[raw], seed=0)
        found[raw] = {"value": ratio.value, "low": ratio.low, "high": ratio.high}
    return found


def _bound(
    session: onnxruntime.InferenceSession,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
) -> Run:
    """Prebound I/O with its copies, written as plainly as can be for one input and one output."""
    (name, like), (output, answer) = *inputs.items(), *outputs.items()
    source, target = np.empty_like(like), np.empty_like(answer)
    binding = session.io_binding()
    binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(source))
    binding.bind_ortvalue_output(output, onnxruntime.OrtValue.ortvalue_from_numpy(target))
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("gpu_graph_id", "-1")  # else it is looked for at every call

    def run(feed: Mapping[str, Array]) -> dict[str, Array]:
        source[...] = feed[name]
        session.run_with_iobinding(binding, options)
        return {output: target.copy()}

    return run


def _row(found: Mapping[str, Any]) -> Sequence[str]:
    times = [f"{found['median_ns'][name] / 1e3:.2f}" for name in ("ours", "run", "bound")]
    return [found["name"], *times, _ratio(found["run"]), _ratio(found["bound"])]


def _ratio(found: Mapping[str, float]) -> str:
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


if __name__ == "__main__":
    raise SystemExit(main())
